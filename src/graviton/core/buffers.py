"""What counts as bytes at our edges."""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["Buffer"]

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Readable bytes. `bytes` are immutable and used in place; anything else belongs to its owner, who may change it, and
is copied before its hash is taken (what is written is exactly what was hashed)."""
