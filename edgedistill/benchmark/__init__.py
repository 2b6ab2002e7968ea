"""The stage that measures, and changes nothing."""
