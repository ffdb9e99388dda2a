"""Resumable uploads of a store: where their rows, parts and spilled bodies lie."""

from __future__ import annotations

from graviton.assembly.store import Store
from graviton.errors import Unsupported
from graviton.services.uploads import Uploads

__all__ = ["open_uploads"]


async def open_uploads(store: Store, *, lifetime_seconds: float = 86_400.0) -> Uploads:
    """The uploads of `store`, which is made if it is not there. Whoever opens them closes them, before the store.
    Raises ConfigError, Unavailable, and what opening a store raises."""
    raise Unsupported("resumable uploads are not there yet", operation="upload")
