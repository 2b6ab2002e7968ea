"""Programs that run a model. A file is a runtime; it imports its library and numpy, nothing of ours that is heavy."""
