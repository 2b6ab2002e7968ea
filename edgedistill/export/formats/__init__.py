"""Layouts of shipped files. A file is a format; `format: <file name>` chooses it."""
