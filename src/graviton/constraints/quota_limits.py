"""How much a store may keep, as values; what comes of it is in `quota.py`."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["QuotaLimits"]


class QuotaLimits(NamedTuple):
    """How much may be kept; None where there is no limit."""

    bytes: int | None = None
    """Sum of the sizes of all blobs, each once however many hold it."""
    blobs: int | None = None
    holder_bytes: int | None = None
    """The same for each holder, of what it holds."""
    holder_blobs: int | None = None

    @property
    def is_any(self) -> bool:
        """Whether there is a limit at all."""
        return any(limit is not None for limit in self)
