"""Blocks and looks at folders, for the tests of the filesystem backend."""

from __future__ import annotations

import os
from pathlib import Path

from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.ports.blocks import BlockWritePlan, CanonicalBlock, WriteMode

ALWAYS = BlockWritePlan(WriteMode.ALWAYS)


def block(data: bytes, algo: HashAlgo = HashAlgo.SHA256) -> CanonicalBlock:
    return CanonicalBlock(BlockKey(algo.digest(data), len(data)), data)


def batch(count: int, size: int = 64, stem: str = "") -> list[CanonicalBlock]:
    return [block(f"{stem}{n:08}".encode().ljust(size, b".")) for n in range(count)]


def path_of(root: Path, one: CanonicalBlock) -> Path:
    return root / "cas/blocks" / one.key.algo.value / f"{one.key.hex}-{one.key.size}"


def temp_files(root: Path) -> list[str]:
    return [name for _, _, files in os.walk(root) for name in files if name.startswith(".tmp")]


def open_files() -> set[str]:
    """What this process has open of regular files and folders."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue  # the descriptor of this very listing
    return {
        path
        for path in found
        if path.startswith("/") and "/proc/" not in path and "/dev/" not in path and "/#" not in path
    }
