"""Types of the native kernel.

Every `Buffer` may be any C-contiguous object with the buffer protocol (bytes, bytearray, memoryview, mmap). It is used
in place and with the GIL released, so nobody may write to it during the call. One object used by two threads at once
raises RuntimeError. Wrong arguments raise ValueError.
"""

from collections.abc import Sequence
from mmap import mmap
from typing import Literal, TypeAlias, final

Buffer: TypeAlias = bytes | bytearray | memoryview | mmap
Algo: TypeAlias = Literal["blake3", "sha256"] | str

__version__: str

def is_debug_build() -> bool:
    """Whether this was compiled without optimisation."""

def simd_path() -> str:
    """What w16-v1 runs on here: avx512-vbmi-gfni, avx512bw, avx2 or portable."""

def simd_paths() -> list[str]:
    """Everything w16-v1 could run on here, fastest first."""

@final
class Chunker:
    """A streaming chunker; `spec` is canonical text, `simd` one of `simd_paths()` (the first unless given)."""

    def __new__(cls, spec: str, simd: str | None = None) -> Chunker: ...
    def feed(self, data: Buffer) -> list[int]:
        """Append `data`; the lengths of the chunks whose end is decided by now."""

    def finish(self) -> list[int]:
        """End the input; the length of the chunk that is left, if any."""

@final
class Ingest:
    """One pass over a blob: cuts, the digest of each block, the digest of the blob (same algorithm unless given)."""

    def __new__(cls, spec: str, block_algo: Algo, blob_algo: Algo | None = None, simd: str | None = None) -> Ingest: ...
    def feed(self, segment: Buffer, final: bool = False) -> tuple[list[int], list[bytes]]:
        """Lengths and digests of the blocks decided by now, which cover `segment[:sum(lengths)]`.

        `segment` begins at a block start: the undecided rest of one segment, less than one maximal block, is the head
        of the next. With `final` everything is consumed.
        """

    def finish(self) -> tuple[bytes, int]:
        """Digest and size in bytes of the blob."""

@final
class Hasher:
    """An incremental hash."""

    def __new__(cls, algo: Algo) -> Hasher: ...
    def update(self, data: Buffer) -> None:
        """Append `data`."""

    def digest(self) -> bytes:
        """The digest so far; more may follow."""

def digest(data: Buffer, algo: Algo) -> bytes:
    """The digest of `data`."""

def digest_many(buffers: Sequence[Buffer], algo: Algo) -> list[bytes]:
    """The digest of each buffer, in order; the GIL is released once."""

def syncfs(fd: int) -> None:
    """Make everything written to the file system of `fd` durable; OSError with its errno on failure."""

def write_files(folder: int, names: Sequence[str], buffers: Sequence[Buffer], mode: int) -> None:
    """Create each file in the open `folder` with `mode`, write all of its buffer, close it; GIL released once.

    On failure OSError with its errno and two more attributes: `index`, the file it came from, and `made`, how many of
    the names exist now. Nothing is removed. ValueError for a name with a NUL or lists of different lengths.
    """

def rename_files(folder: int, olds: Sequence[str], news: Sequence[str]) -> None:
    """Rename each file within the open `folder`, replacing what is there; GIL released once.

    On failure OSError with its errno and `index` and `made`: those before `index` have their new names.
    """
