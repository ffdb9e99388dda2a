"""`fastcdc-v1:min:avg:max`: FastCDC 2020 with a 64-bit gear hash and normalisation level 2.

Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS
31(9), 2020, as the Rust crate `fastcdc` (module v2020) and PyPI `pyfastcdc` implement it; the cuts are equal to
theirs. The byte *after* a cut is part of the hash that decides it, and positions are tested in pairs: the last byte of
an input of odd length is never tested. Those two are habits of the implementation, kept because they move cuts.
"""

from __future__ import annotations

import hashlib
import math

from graviton.core.chunking.spec import ChunkerSpec

__all__ = ["FastCdcCutter"]

LEVEL = 2
"""Normalisation: the mask has this many bits more before the average size, and fewer after it (paper, section 3.5)."""

WINDOW_BYTES = 64
"""The hash shifts left by one per byte, so 64 bytes later nothing of a byte is left in it."""

_U64 = (1 << 64) - 1

GEAR = tuple(
    int.from_bytes(hashlib.md5(bytes((byte,)) * 64, usedforsecurity=False).digest()[:8], "big") for byte in range(256)
)
"""One random number per byte value: the first 8 bytes of the MD5 of 64 times that byte (crate `fastcdc`,
`examples/table64.rs`)."""

MASKS = {
    6: 0x0000000001803110,
    7: 0x0000000018035100,
    8: 0x0000001800035300,
    9: 0x0000019000353000,
    10: 0x0000590003530000,
    11: 0x0000D90003530000,
    12: 0x0000D90103530000,
    13: 0x0000D90303530000,
    14: 0x0000D90313530000,
    15: 0x0000D90F03530000,
    16: 0x0000D90303537000,
    17: 0x0000D90703537000,
    18: 0x0000D90707537000,
    19: 0x0000D91707537000,
    20: 0x0000D91747537000,
    21: 0x0000D91767537000,
    22: 0x0000D93767537000,
    23: 0x0000D93777537000,
    24: 0x0000D93777577000,
}
"""Mask by log2 of the chunk size it gives: to 17 from the paper's C code (destor), above from restic-FastCDC; taken
from the crate `fastcdc`, which is the definition (MIT licence)."""


class FastCdcCutter:
    """The cut rule of `fastcdc-v1`. For stores that must share cut points with other FastCDC 2020 programs."""

    __slots__ = ("_avg_bytes", "_easy_mask", "_hard_mask", "_min_bytes", "max_bytes")

    def __init__(self, spec: ChunkerSpec) -> None:
        bits = math.floor(math.log2(spec.avg_bytes) + 0.5)
        self.max_bytes = spec.max_bytes
        self._min_bytes = spec.min_bytes
        self._avg_bytes = spec.avg_bytes
        self._hard_mask = MASKS[bits + LEVEL]
        self._easy_mask = MASKS[bits - LEVEL]

    def cut(self, data: memoryview, seen: int, last: bool) -> int | None:
        """See `Cutter.cut`."""
        n = min(len(data), self.max_bytes)
        first = max(self._min_bytes, seen & ~1)
        gear_hash = 0
        for byte in data[max(self._min_bytes, first - WINDOW_BYTES) : max(self._min_bytes, first)]:
            gear_hash = ((gear_hash << 1) + GEAR[byte]) & _U64
        for length in range(first, n & ~1):
            gear_hash = ((gear_hash << 1) + GEAR[data[length]]) & _U64
            mask = self._hard_mask if length < self._avg_bytes else self._easy_mask
            if not gear_hash & mask:
                return length
        if last or n == self.max_bytes:
            return n or None
        return None
