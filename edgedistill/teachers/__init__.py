"""Models to learn from. A file is a kind of teacher; `kind: <file name>` chooses it."""
