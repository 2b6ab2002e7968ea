"""Where rows come from. A file is a source; `source: <file name>` chooses it."""
