"""Stores to damage, and what verification says about them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.core.chunking import ChunkerSpec
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestEntry
from graviton.services.blob_check import VerifyParts
from graviton.services.file_sizes import FileSizes
from graviton.services.findings import Damage, VerifySummary
from graviton.services.verify import Verification

KIB = 1024
BLOCK_BYTES = 4 * KIB


class Outcome(NamedTuple):
    """What a run found."""

    damages: list[Damage]
    notes: list[Damage]
    summary: VerifySummary


@asynccontextmanager
async def opened(root: Path, spec: str = f"fixed-v1:{BLOCK_BYTES}", **changes: object) -> AsyncIterator[Store]:
    """A store of small blocks of a fixed size, so that tests know which block holds which byte."""
    settings = Settings(fs_root=root, chunker=ChunkerSpec.parse(spec))._replace(**changes)  # type: ignore[arg-type]
    async with Store(settings) as store:
        yield store


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes without repetition; the same every time."""
    return random.Random(seed).randbytes(size)


async def parts_of(store: Store) -> VerifyParts:
    cas, settings = await store.required(), store.settings
    sizes = FileSizes(settings.fs_root / settings.fs_block_prefix) if settings.blob_backend == "fs" else None
    return VerifyParts(await store.metadata(), cas.index, cas.manifests, cas.blocks, cas.access, cas.budget, sizes)


async def verified(store: Store, *keys: BlobKey, quick: bool = False, parts: VerifyParts | None = None) -> Outcome:
    """Verify these blobs, or everything."""
    found: list[Damage] = []
    async with Verification(parts or await parts_of(store), found.append, quick=quick) as run:
        await (run.blobs(keys) if keys else run.everything())
        summary = run.summary
    damages = [one for one in found if not one.is_note]
    notes = [one for one in found if one.is_note]
    assert (summary.damages, summary.notes) == (len(damages), len(notes))
    return Outcome(damages, notes, summary)


async def entries_of(store: Store, blob: BlobKey) -> list[ManifestEntry]:
    cas = await store.required()
    record = await cas.manifests.get(blob)
    return [entry async for page in cas.manifests.pages(record) for entry in page]


def block_file(root: Path, key: BlockKey) -> Path:
    return root / "cas" / "blocks" / key.algo.value / f"{key.hex}-{key.size}"


def overwrite(path: Path, data: bytes) -> None:
    """Change a block's file, which is read-only."""
    path.chmod(0o600)
    path.write_bytes(data)


def spoil_row(root: Path, namespace: str, key: bytes | None = None) -> bytes:
    """Flip a bit of a row (the first) behind SQLite's back, so that it fails its checksum; the key."""
    connection = sqlite3.connect(root / "meta.sqlite")
    with closing(connection), connection:
        if key is None:
            [(key,)] = connection.execute(f"SELECT key FROM ns_{namespace} ORDER BY key LIMIT 1").fetchall()
        changed = connection.execute(f"UPDATE ns_{namespace} SET checksum = checksum + 1 WHERE key = ?", (key,))
        assert changed.rowcount == 1
    assert isinstance(key, bytes)
    return key
