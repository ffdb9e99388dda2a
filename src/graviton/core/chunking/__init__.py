"""Chunkers: where a stream of bytes is cut into blocks, and the kernel that cuts and hashes.

Start with `select_kernel()` and `ChunkerSpec.parse`; everything else is behind them.
"""

from graviton.core.chunking._kernel import (
    KERNEL_CHOICES,
    Kernel,
    NativeKernel,
    PythonKernel,
    cutter_for,
    select_kernel,
)
from graviton.core.chunking.chunker import Chunker, Cutter, StreamingChunker
from graviton.core.chunking.ingest import Ingest, PythonIngest
from graviton.core.chunking.spec import DEFAULT_SPEC, PRESETS, ChunkerSpec

__all__ = [
    "DEFAULT_SPEC",
    "KERNEL_CHOICES",
    "PRESETS",
    "Chunker",
    "ChunkerSpec",
    "Cutter",
    "Ingest",
    "Kernel",
    "NativeKernel",
    "PythonIngest",
    "PythonKernel",
    "StreamingChunker",
    "cutter_for",
    "select_kernel",
]
