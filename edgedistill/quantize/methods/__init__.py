"""How weights become small integers. A file is a method; `method: <file name>` chooses it."""
