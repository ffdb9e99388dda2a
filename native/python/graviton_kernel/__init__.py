"""Native kernel of Graviton: cuts, hashes, small files; used through `graviton.core.chunking.select_kernel`."""

from graviton_kernel._native import (
    Chunker,
    Hasher,
    Ingest,
    __version__,
    digest,
    digest_many,
    is_debug_build,
    rename_files,
    simd_path,
    simd_paths,
    syncfs,
    write_files,
)

__all__ = [
    "Chunker",
    "Hasher",
    "Ingest",
    "__version__",
    "digest",
    "digest_many",
    "is_debug_build",
    "rename_files",
    "simd_path",
    "simd_paths",
    "syncfs",
    "write_files",
]
