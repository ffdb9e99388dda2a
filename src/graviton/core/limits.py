"""Bounds that hold everywhere, each with its origin."""

from __future__ import annotations

__all__ = [
    "MAX_BLOCK_BYTES",
    "MAX_CUSTOM_NAME_CHARS",
    "MAX_CUSTOM_VALUE_CHARS",
    "MAX_DOMAIN_BYTES",
    "MAX_MIME_CHARS",
    "MAX_PAGE_ENTRIES",
    "MAX_SIZE",
    "MIN_BLOCK_BYTES",
]

MIN_BLOCK_BYTES = 1
"""A block is never empty; an empty blob has no blocks."""

MAX_BLOCK_BYTES = 16 * 1024 * 1024
"""16 MiB, as in the Scala ancestor: one block always fits in memory, whatever the blob's size."""

MAX_SIZE = 2**63 - 1
"""Sizes and offsets are signed 64-bit in every stored format and in PostgreSQL."""

MAX_PAGE_ENTRIES = 4096
"""Entries of one manifest page: 147 KB, about 4 GiB of blob at 1 MiB blocks; a range read loads only its pages."""

MAX_DOMAIN_BYTES = 128
"""UTF-8 length of a domain or holder name: it is part of every metadata key."""

MAX_CUSTOM_NAME_CHARS = 64
"""Name of a custom attribute, as in the ancestor."""

MAX_CUSTOM_VALUE_CHARS = 1024
"""Value of a custom attribute, as in the ancestor."""

MAX_MIME_CHARS = 256
"""A MIME type with its parameters, as in the ancestor."""
