"""Shapes of small models. A file is a kind of student; `kind: <file name>` chooses it."""
