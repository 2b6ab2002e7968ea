"""What a model is for. A file is a task; `kind: <file name>` in a recipe's task section chooses it."""
