"""Makes a store with very many tiny blobs, fast: `build.py STORE COUNT` prints some of their ids.

The metadata is what COUNT puts would have left: the metadata room's own transactions write it, claim and commit, only
many to a transaction. The folder of blocks gets a name for every block, but few files behind them: the names are hard
links to a handful of files (ext4 allows 65,000 each), because a million files would take 4 GiB and minutes to remove.
So whoever looks at names finds a folder of true size; nobody may read these blocks, and nothing measured here does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

import graviton
from graviton.core.attributes import BinaryAttributes
from graviton.core.chunking import DEFAULT_SPEC
from graviton.core.clock import SystemClock
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import paginate
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.ports.manifests import BlobCommit
from graviton.stores.results import confirmed

GROUP_BLOBS = 2000
"""Blobs per transaction: their rows take some MB of memory."""

LINKS_PER_FILE = 60_000
SAMPLE_EVERY = 499
"""A prime, so that the ids printed are spread over everything."""


def content(number: int) -> bytes:
    """A tiny blob."""
    return b"blob %012d" % number


def keys(first: int, last: int) -> list[BlockKey]:
    """The blocks of some blobs; each is a blob of one block."""
    return [
        BlockKey(Digest(HashAlgo.BLAKE3, blake3(content(number)).digest()), len(content(number)))
        for number in range(first, last)
    ]


async def write_metadata(store: graviton.Store, count: int) -> Iterator[str]:
    """Claim, confirm and commit `count` blobs; the ids of some."""
    kv = await store.metadata()
    index, manifests, clock = KvBlockIndex(kv), KvBlobManifestRepo(kv), SystemClock()
    ids = []
    for first in range(0, count, GROUP_BLOBS):
        blocks = keys(first, min(count, first + GROUP_BLOBS))
        opened = await index.open([[block] for block in blocks])
        commits = []
        for block, (session, _) in zip(blocks, opened, strict=True):
            key = BlobKey(block.digest, block.size)
            attributes = confirmed(BinaryAttributes(), block.size, 1, clock)
            commits.append(BlobCommit(session, key, paginate([block]), [block], attributes, DEFAULT_SPEC.text))
            if len(ids) < count // SAMPLE_EVERY and (first + len(commits)) % SAMPLE_EVERY == 0:
                ids.append(key.text)
        await manifests.commit(commits)
    return iter(ids)


def write_names(folder: Path, count: int) -> None:
    """A name for every block, made in the order of the puts."""
    folder_fd = os.open(folder, os.O_RDONLY)
    origin = ""
    for number, key in enumerate(keys(0, count)):
        name = f"{key.digest.hex}-{key.size}"
        if number % LINKS_PER_FILE == 0:
            origin = name
            (folder / name).write_bytes(content(number))
            (folder / name).chmod(0o400)
        else:
            os.link(origin, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    os.close(folder_fd)


async def main() -> None:
    """Build the store."""
    root, count = Path(sys.argv[1]), int(sys.argv[2])
    async with graviton.open(root) as store:
        await store.put(b"makes the store and its folders")
        for one in await write_metadata(store, count):
            print(one)
    write_names(root / "cas" / "blocks" / "blake3", count)
    os.sync()


if __name__ == "__main__":
    asyncio.run(main())
