"""Blocks and keys that laws use."""

from __future__ import annotations

from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.ports.blocks import BlockWritePlan, CanonicalBlock, WriteMode

__all__ = ["ALWAYS", "block", "blocks_of", "many_blocks", "name_of"]

ALWAYS = BlockWritePlan(WriteMode.ALWAYS)


def block(data: bytes, algo: HashAlgo = HashAlgo.BLAKE3) -> CanonicalBlock:
    """`data` as a block."""
    return CanonicalBlock(BlockKey(algo.digest(data), len(data)), data)


def blocks_of(*payloads: bytes) -> list[CanonicalBlock]:
    """Several blocks."""
    return [block(payload) for payload in payloads]


def many_blocks(count: int, stem: bytes = b"block") -> list[CanonicalBlock]:
    """`count` different small blocks of different sizes; another stem gives others."""
    return [block(b"%s %d" % (stem, n) + b"." * (n % 7)) for n in range(count)]


def name_of(key: BlockKey) -> str:
    """The path name of a block, `<algo>/<hex>-<size>`."""
    return f"{key.algo.value}/{key.hex}-{key.size}"
