"""The row in a metadata store that holds half a copy of another one. docs/metadata-copy.md."""

from __future__ import annotations

import json
from typing import NamedTuple

from graviton.errors import IntegrityError

__all__ = ["HalfCopy"]

_RESTORE_BYTES = 16
"""A restore that has not come to its end leaves so many random bytes under the same key; a copy leaves an object."""


class HalfCopy(NamedTuple):
    """What the row says."""

    source: str
    """Where the source is, for people."""
    source_id: str
    """Its metadata id: no other metadata store is this one's source."""
    metadata_id: str
    """The id that this store will have."""
    run: str
    """32 hex digits of the run that is at it; whoever takes over writes his own, and the one before is refused."""
    began_ns: int
    """When the copy began, UTC nanoseconds: sessions that were open in the source ended then."""
    is_cleared: bool = True
    """Nothing is left of what was there before."""

    def encode(self) -> bytes:
        """The stored form: one JSON object."""
        return json.dumps(self._asdict(), sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> HalfCopy | None:
        """Inverse of `encode`; None if a restore left the row. Raises IntegrityError."""
        if len(data) <= _RESTORE_BYTES or not data.startswith(b"{"):
            return None
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise IntegrityError(
                f"the row that says what this metadata store is half a copy of is damaged: {error}", subject="restoring"
            ) from error
