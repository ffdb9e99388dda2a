"""Stateful limits: what may be used, how fast, by how many at once."""
