"""Texts and labels: read, cleaned of duplicates, split, and audited for overlap."""
