"""Measuring language models: prefill, decode, memory, and what they say at each position."""
