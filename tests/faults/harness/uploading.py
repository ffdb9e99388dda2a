"""An upload under faults, and how another process goes on with it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import graviton
from graviton.assembly.limits import spill_of
from graviton.assembly.store import Store
from graviton.assembly.uploads import open_uploads
from graviton.core.hashing import HashAlgo
from graviton.core.ranges import Span
from graviton.errors import Conflict
from graviton.metadata.rows import CLAIMS, OWNERS, RANGE_HEADS, RANGES, OwnerRow
from graviton.metadata.upload_rows import UPLOAD_NAMESPACES
from graviton.ports.block_index import OwnerState
from graviton.services.uploads import Checksum, ChecksumAlgo, UploadId, Uploads, UploadState, UploadWishes
from tests.faults.harness.opening import open_store
from tests.faults.harness.scenarios import SMALL_BLOCKS, some_bytes
from tests.upload_worlds import TINY, pieces, read

__all__ = ["DATA", "go_on", "upload_everything"]

DATA = some_bytes("upload", 60_000)

Say = Callable[[str, str], None]


async def opened(store: Store) -> Uploads:
    """Its uploads; a writer that was killed is not waited for."""
    spill = spill_of(store.settings, (await store.for_writing()).budget)
    return await open_uploads(store, spill=spill, stale_seconds=0, sizes=TINY)


async def upload_everything(store: Store, say: Say) -> None:
    """Every way that bytes get into an upload. Says what was acknowledged."""
    uploads = await opened(store)
    try:
        upload = await uploads.create(UploadWishes(len(DATA)))
        say("upload", upload.id)
        upload = await uploads.append(upload.id, 0, pieces(DATA[:20_000]))
        say("offset", str(upload.offset))
        for at in range(20_000, 20_008):
            upload = await uploads.append(upload.id, at, pieces(DATA[at : at + 1]))
            say("offset", str(upload.offset))
        await uploads.put_part(upload.id, Span(40_000, 50_000), pieces(DATA[40_000:50_000]))
        say("part", "40000 50000")
        digest = Checksum(ChecksumAlgo.BLAKE3, HashAlgo.BLAKE3.digest(DATA[20_008:30_000]).raw)
        upload = await uploads.append(upload.id, 20_008, pieces(DATA[20_008:30_000]), checksum=digest)
        say("offset", str(upload.offset))
        await uploads.put_part(upload.id, Span(35_000, 55_000), pieces(DATA[35_000:55_000]))
        say("part", "35000 55000")
        await uploads.put_part(upload.id, Span(30_000, 35_000), pieces(DATA[30_000:35_000]))
        say("part", "30000 35000")
        upload = await uploads.append(upload.id, 55_000, pieces(DATA[55_000:]))
        say("offset", str(upload.offset))
        upload = await uploads.finish(upload.id, 30)
        if upload.state is UploadState.DONE:
            say("done", str(upload.key))
    finally:
        await uploads.aclose()


async def go_on(root: Path, say: Say, said: list[tuple[str, str]]) -> None:
    """What a client does after a crash, and what must be left when its upload is gone: nothing. Says what is wrong."""
    async with open_store(root, chunker=SMALL_BLOCKS) as store:
        uploads = await opened(store)
        try:
            known = {subject for verb, subject in said if verb == "upload"}
            there = {status.id async for status in uploads.list()}
            if not known <= there:
                say("broken", f"acknowledged and not there: {known - there}")
            for id in there:
                await _go_on(uploads, store, id, [one for one in said if id in known], say)
                await uploads.terminate(id)
            await uploads.sweep()
            for one in await _left(store, root):
                say("broken", f"left behind: {one}")
        except BaseException:  # noqa: BLE001 - shown by the test
            say("broken", traceback.format_exc())
        finally:
            await uploads.aclose()
    say("checked", "")


async def _go_on(uploads: Uploads, store: Store, id: UploadId, said: list[tuple[str, str]], say: Say) -> None:
    status = await uploads.status(id)
    offset = max([0, *(int(subject) for verb, subject in said if verb == "offset")])
    if status.offset < offset:
        say("broken", f"told {offset}, has {status.offset}")
    missing = await uploads.missing(id)
    for verb, subject in said:
        if verb == "part" and len(missing - (missing - _ranges(subject))):
            say("broken", f"the part {subject} was acknowledged, missing is {missing}")
    while (status := await uploads.status(id)).state is UploadState.RECEIVING:
        try:
            await uploads.append(id, status.offset, pieces(DATA[status.offset :]))
        except Conflict:
            continue
    done = await uploads.finish(id, 30)
    if done.key is None:
        say("broken", f"not done: {done}")
    elif await read(store, done.key) != DATA:
        say("broken", "wrong bytes")


def _ranges(text: str) -> graviton.RangeSet:
    start, end = map(int, text.split())
    return graviton.RangeSet([graviton.Span(start, end)])


async def _left(store: Store, root: Path) -> list[str]:
    kv = await store.metadata()
    found = [
        f"{name} {key.hex()}" for name in (*UPLOAD_NAMESPACES, RANGES, RANGE_HEADS) async for key, _ in kv.scan(name)
    ]
    found += [str(path.relative_to(root)) for path in (root / "uploads").rglob("*")]
    async for key, data in kv.scan(OWNERS):
        row = OwnerRow.decode(data)
        if row.state is OwnerState.OPEN and (row.first_claims or [one async for one in kv.scan(CLAIMS, key)]):
            found.append(f"open session {key.hex()}")  # one without claims holds nothing, and expires
    return found
