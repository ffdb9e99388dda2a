"""Blocks and objects in a directory."""
