"""Finding, loading, shaping and counting models."""
