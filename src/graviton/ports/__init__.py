"""Ports: what the system needs from the outside, one interface per file; each docstring is the law."""
