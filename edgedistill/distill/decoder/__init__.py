"""Distilling causal language models: what follows each token, learned from what the teacher thinks may follow."""
