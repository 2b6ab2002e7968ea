"""edgedistill: turn a large model into a small file for a device, and prove what that cost."""

__version__ = "0.1.0"
