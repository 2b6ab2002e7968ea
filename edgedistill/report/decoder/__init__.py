"""The report of a language model, on the same page as every other."""
