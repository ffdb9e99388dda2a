"""The key-value store of the embedded default, in one file."""
