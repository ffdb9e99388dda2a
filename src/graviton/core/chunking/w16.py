"""`w16-v1:min:avg:max`: windowed two-level chunking, the default.

This module is the definition, written to be read; the kernel's SIMD code must give the same cuts. A cheap 16-byte
window hash made of byte additions and one linear map on bytes sifts every position; about 1 in 256 survives and is
confirmed by a 64-bit hash of the last 32 bytes. Both windows lie inside the chunk, so a cut depends on nothing before
it. Why and how well: `docs/formats/chunkers.md`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from graviton.core.chunking.spec import ChunkerSpec

__all__ = ["CANDIDATE", "FACTORS", "FINAL_FACTOR", "TRANSFORM", "W16Cutter", "second_level"]

CANDIDATE = 0xE1
"""The first-level hash of a candidate; zeros and runs of period 1, 2, 4 and 8 never have it."""

FIRST_LEVEL_BITS = 8
"""A candidate alone has probability 2^-8, so only what is wanted beyond that is left to the second level."""

FACTORS = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F5, 0x06C45D188009454F, 0xF88BB8A8724C81ED)
FINAL_FACTOR = 0x3EE5789041C98AC3
"""Outputs 0, 1, 2, 3 and 8 of splitmix64 from state 0, each with its lowest bit set: odd, so multiplying loses
nothing."""

NORMALISATION = 2
"""Before the average size a cut is 2^2 times less likely than 1/avg, after it 2^2 times more likely."""

_U64 = (1 << 64) - 1
_WORDS = struct.Struct("<4Q")


def _transform(byte: int) -> int:
    """T(b) = b ^ rotl(b,1) ^ rotl(b,2) ^ rotl(b,3) ^ rotl(b,4), with 8-bit rotations."""
    rotations = [(byte << k | byte >> (8 - k)) & 255 for k in range(5)]
    return rotations[0] ^ rotations[1] ^ rotations[2] ^ rotations[3] ^ rotations[4]


TRANSFORM = bytes(_transform(byte) for byte in range(256))
"""T as a table: a bijection, linear over GF(2), which is what makes it one GFNI instruction."""


class W16Cutter:
    """The cut rule of `w16-v1`."""

    __slots__ = ("_avg_bytes", "_bits", "_min_bytes", "max_bytes")

    def __init__(self, spec: ChunkerSpec) -> None:
        self.max_bytes = spec.max_bytes
        self._min_bytes = spec.min_bytes
        self._avg_bytes = spec.avg_bytes
        self._bits = spec.avg_bytes.bit_length() - 1

    def cut(self, data: memoryview, seen: int, last: bool) -> int | None:
        """See `Cutter.cut`."""
        n = min(len(data), self.max_bytes)
        first = max(self._min_bytes, seen + 1)
        for length in _candidates(data, first, n):
            bits = self._bits + (NORMALISATION if length < self._avg_bytes else -NORMALISATION)
            if bits <= FIRST_LEVEL_BITS or second_level(data, length) < 1 << (64 - (bits - FIRST_LEVEL_BITS)):
                return length
        if last or n == self.max_bytes:
            return n or None
        return None


def _candidates(d: memoryview, first: int, end: int) -> Iterator[int]:
    """The lengths in [first, end] after whose last byte the first-level hash is `CANDIDATE`, in order.

    h(i) = t(i) + 3 t(i-4) + 3 t(i-8) + 9 t(i-12) mod 256; the last twelve t are carried along.
    """
    if first > end:
        return
    t = [_t(d, i) for i in range(first - 13, first - 1)]
    for i in range(first - 1, end):
        t.append(_t(d, i))
        if (t[12] + 3 * t[8] + 3 * t[4] + 9 * t[0]) & 255 == CANDIDATE:
            yield i + 1
        del t[0]


def _t(d: memoryview, i: int) -> int:
    """T(d[i] + 3 d[i-1] + 2 d[i-2] + 6 d[i-3] mod 256)."""
    return TRANSFORM[(d[i] + 3 * d[i - 1] + 2 * d[i - 2] + 6 * d[i - 3]) & 255]


def second_level(d: memoryview, length: int) -> int:
    """The 64-bit hash of the 32 bytes before `length`."""
    words: tuple[int, int, int, int] = _WORDS.unpack(d[length - 32 : length])
    total = sum(word * factor for word, factor in zip(words, FACTORS, strict=True)) & _U64
    total ^= total >> 32
    return total * FINAL_FACTOR & _U64
