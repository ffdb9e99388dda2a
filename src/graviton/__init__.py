"""Content-addressed storage: bytes in, deduplicated at content-defined boundaries, verified, out again."""
