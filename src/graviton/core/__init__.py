"""Values and algorithms: pure, without I/O, event loop or environment."""
