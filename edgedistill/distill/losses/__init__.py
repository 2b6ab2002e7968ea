"""What a student minimises. A file is a loss; `loss: <file name>` chooses it."""
