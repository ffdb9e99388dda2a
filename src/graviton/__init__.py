"""Content-addressed storage: bytes in, deduplicated at content-defined boundaries, verified, out again.

    async with graviton.open("my-store") as store:
        result = await store.put(b"some bytes")
        async with await store.get(result.key) as reader:
            assert await reader.read() == b"some bytes"

`graviton.sync` is the same without `await`. Names here are the public interface; what they need is loaded when they
are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from graviton._version import __version__

if TYPE_CHECKING:
    from graviton.assembly.api import open, open_from_environment
    from graviton.assembly.store import Store
    from graviton.core.attributes import BinaryAttributes
    from graviton.core.chunking.spec import ChunkerSpec
    from graviton.core.hashing import Digest, HashAlgo
    from graviton.core.keys import BlobKey, BlockKey
    from graviton.core.policies import BlobWritePlan, StorePolicy
    from graviton.core.ranges import RangeSet, Span
    from graviton.errors import (
        AlreadyExists,
        ConfigError,
        Conflict,
        DigestMismatch,
        GravitonError,
        IntegrityError,
        InvalidInput,
        LimitExceeded,
        NotFound,
        PermissionDenied,
        RangeNotSatisfiable,
        Retired,
        StorageFull,
        TooManyRequests,
        Unauthenticated,
        Unavailable,
        Unsupported,
    )
    from graviton.ports.any_store import AnyStore
    from graviton.ports.blobs import BlobReader, BlobStat, BlobWriteResult, SmallBlob

_HOMES = {
    "graviton.assembly.api": ("open", "open_from_environment"),
    "graviton.assembly.store": ("Store",),
    "graviton.ports.any_store": ("AnyStore",),
    "graviton.core.attributes": ("BinaryAttributes",),
    "graviton.core.chunking.spec": ("ChunkerSpec",),
    "graviton.core.hashing": ("Digest", "HashAlgo"),
    "graviton.core.keys": ("BlobKey", "BlockKey"),
    "graviton.core.policies": ("BlobWritePlan", "StorePolicy"),
    "graviton.core.ranges": ("RangeSet", "Span"),
    "graviton.ports.blobs": ("BlobReader", "BlobStat", "BlobWriteResult", "SmallBlob"),
    "graviton.errors": (
        "AlreadyExists",
        "ConfigError",
        "Conflict",
        "DigestMismatch",
        "GravitonError",
        "IntegrityError",
        "InvalidInput",
        "LimitExceeded",
        "NotFound",
        "PermissionDenied",
        "RangeNotSatisfiable",
        "Retired",
        "StorageFull",
        "TooManyRequests",
        "Unauthenticated",
        "Unavailable",
        "Unsupported",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AlreadyExists",
    "AnyStore",
    "BinaryAttributes",
    "BlobKey",
    "BlobReader",
    "BlobStat",
    "BlobWritePlan",
    "BlobWriteResult",
    "BlockKey",
    "ChunkerSpec",
    "ConfigError",
    "Conflict",
    "Digest",
    "DigestMismatch",
    "GravitonError",
    "HashAlgo",
    "IntegrityError",
    "InvalidInput",
    "LimitExceeded",
    "NotFound",
    "PermissionDenied",
    "RangeNotSatisfiable",
    "RangeSet",
    "Retired",
    "SmallBlob",
    "Span",
    "StorageFull",
    "Store",
    "StorePolicy",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
    "__version__",
    "open",
    "open_from_environment",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'graviton' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
