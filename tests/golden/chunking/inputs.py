"""Builds the inputs that vectors.json describes, independently of the code under test.

`native/kernel/tests/golden.rs` builds the same ones in Rust.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Any

_U64 = (1 << 64) - 1


def splitmix64(state: int) -> Iterator[int]:
    while True:
        state = (state + 0x9E3779B97F4A7C15) & _U64
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _U64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _U64
        yield z ^ (z >> 31)


def random_bytes(seed: int, size: int) -> bytes:
    """Little-endian outputs of splitmix64, cut to `size` bytes."""
    words = (size + 7) // 8
    outputs = splitmix64(seed)
    return struct.pack(f"<{words}Q", *(next(outputs) for _ in range(words)))[:size]


def build(description: dict[str, Any]) -> bytes:
    """The bytes of an `input` object of vectors.json."""
    size = description["bytes"]
    match description["kind"]:
        case "splitmix64":
            return random_bytes(description["seed"], size)
        case "repeat":
            unit = bytes.fromhex(description["hex"])
            return (unit * (size // len(unit) + 1))[:size]
        case "alphabet":  # each random byte picks a letter: data with many matches
            letters = bytes.fromhex(description["hex"])
            table = bytes(letters[byte % len(letters)] for byte in range(256))
            return random_bytes(description["seed"], size).translate(table)
        case kind:
            raise AssertionError(f"unknown kind of input {kind!r}")


def cuts_digest(lengths: list[int]) -> str:
    """SHA-256, in hex, of the lengths in decimal, separated by commas."""
    return hashlib.sha256(",".join(map(str, lengths)).encode()).hexdigest()
