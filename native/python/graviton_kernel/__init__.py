"""Native chunking and hashing kernel of Graviton; used through `graviton.core.chunking.select_kernel`."""

from graviton_kernel._native import (
    Chunker,
    Hasher,
    Ingest,
    __version__,
    digest,
    digest_many,
    is_debug_build,
    simd_path,
    simd_paths,
    syncfs,
)

__all__ = [
    "Chunker",
    "Hasher",
    "Ingest",
    "__version__",
    "digest",
    "digest_many",
    "is_debug_build",
    "simd_path",
    "simd_paths",
    "syncfs",
]
