"""The laws that hold after every fault, checked in a process of their own on whatever is left on the disk."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path

import graviton
from graviton.assembly.store import Store
from graviton.core.keys import BlockKey
from graviton.metadata.audit import audit
from graviton.metadata.backup_format import BackupHeader, read_backup
from graviton.ports.events import EventKind
from graviton.services.findings import Damage
from graviton.services.verify import Verification, VerifyParts
from tests.faults.harness.opening import open_store
from tests.faults.harness.scenarios import KNOWN, OLD, Blob, begins_empty

_BLOCK = re.compile(r"[0-9a-f]{64}-[0-9]+")
_TEMPORARY = re.compile(
    r"\.tmp-[0-9a-f]*-[0-9a-f]{24}|\.graviton-store\.json\.[0-9a-f]{16}\.tmp|\.meta\.(sqlite|rocks)\.tmp-[0-9a-f]{16}.*"
    r"|\.backup\.meta\.[0-9a-f]{16}\.tmp|\.graviton-[0-9a-f]{16}\.tmp"
)
_OF_ROCKSDB = re.compile(r"meta\.rocks|\.meta\.rocks\.tmp-[0-9a-f]{16}")
"""Folders in which RocksDB keeps files of its own."""
_KNOWN_FILES = frozenset(("meta.sqlite", "meta.sqlite-wal", "meta.sqlite-shm", "graviton-store.json", "backup.meta"))


def temporary_files(place: Path) -> list[str]:
    """Names below `place` that only writers use."""
    return sorted(path.name for path in place.rglob("*") if _TEMPORARY.fullmatch(path.name))


def expected(scenario: str, said: Iterable[tuple[str, str]]) -> tuple[set[str], set[str]]:
    """(blobs that must be there, blobs that must not), by what was acknowledged in order."""
    must = set() if begins_empty(scenario) else {blob.id for blob in OLD}
    gone: set[str] = set()
    for verb, subject in said:
        if verb == "put":
            must.add(subject)
            gone.discard(subject)
        elif verb == "rm":
            must.discard(subject)
            gone.add(subject)
    return must, gone


def unacknowledged(scenario: str, must: set[str], gone: set[str]) -> tuple[set[str], set[str]]:
    """The same where the next step of the scenario may have happened without being acknowledged."""
    open_to_removal = {OLD[1].id} if scenario.startswith("remove") else set()
    return must - open_to_removal, gone - (open_to_removal if scenario == "remove_and_put" else set())


async def broken_laws(
    root: Path, must: set[str], gone: set[str], puts: Iterable[str] = (), is_copy: bool = False
) -> list[str]:
    """Everything that is wrong with the store at `root`, in words; an empty list is what all tests want.

    `must` are blobs that were acknowledged, `gone` those whose removal was; the blobs `puts` are put again. `is_copy`:
    its metadata were moved there, so that its events begin in the middle.
    """
    problems = foreign_files(root)
    async with open_store(root) as store:
        there = await _read_everything(store, problems)
        problems += [f"acknowledged and not there: {KNOWN[one].name}" for one in must - there]
        problems += [f"removed and still there: {KNOWN[one].name}" for one in gone & there]
        problems += await unclean(store)
        problems += await _told_otherwise(store, there, is_copy)
        problems += await _puts_work(store, there, [KNOWN[one] for one in puts])
    return problems


async def _read_everything(store: Store, problems: list[str]) -> set[str]:
    there: set[str] = set()
    sizes = 0
    async with aclosing(store.list()) as stats:  # type: ignore[type-var]
        async for stat in stats:
            there.add(stat.key.text)
            sizes += stat.size
            async with await store.get(stat.key) as reader:
                if await reader.read() != KNOWN[stat.key.text].data:
                    problems.append(f"wrong bytes: {stat.key}")
    totals = await store.totals()
    if (totals.blobs, totals.logical_bytes) != (len(there), sizes):
        problems.append(f"totals say {totals}, listed are {len(there)} blobs of {sizes} bytes")
    return there


async def _told_otherwise(store: Store, there: set[str], is_copy: bool) -> list[str]:
    """Blobs of which the events, all together, tell something else than what there is."""
    if await store.existing() is None:
        return []
    outbox, told, after = await store.outbox(), set(there) if is_copy else set[str](), None
    while events := await outbox.read(after):
        after, _ = events[-1]
        for _, event in events:
            if event.kind is EventKind.BLOB_COMMITTED:
                told.add(event.subject)
            elif event.kind is EventKind.BLOB_DELETED:
                told.discard(event.subject)
    return [f"told otherwise by events: {KNOWN[one].name}" for one in told ^ there]


async def unclean(store: Store) -> list[str]:
    """What `verify --all` finds, in blobs and in the metadata's own sums."""
    cas = await store.existing()
    if cas is None:
        return []
    found: list[Damage] = []
    parts = VerifyParts(await store.metadata(), cas.index, cas.manifests, cas.blocks, cas.access, cas.budget)
    async with Verification(parts, found.append) as run:
        await run.everything()
    broken = [f"audit: {finding.message}" async for finding in audit(await store.metadata())]
    return [f"verify: {damage.text}" for damage in found] + broken


async def _puts_work(store: Store, there: set[str], blobs: list[Blob]) -> list[str]:
    """Every blob can be put again, whatever is left of earlier tries, and is whole afterwards."""
    problems = []
    async with aclosing(store.put_many(blob.data for blob in blobs)) as results:  # type: ignore[type-var]
        async for result in results:
            said = {True: "created", False: "not created"}[result.created]
            problems += [f"put again: {result.id} {said}"] if result.created == (result.id in there) else []
    for blob in blobs:
        async with await store.get(graviton.BlobKey.parse(blob.id)) as reader:
            if await reader.read() != blob.data:
                problems.append(f"wrong bytes after put again: {blob.name}")
    return problems + await unclean(store)


def foreign_files(root: Path) -> list[str]:
    """Files that are neither the store's nor temporary, and blocks under a name that is not theirs."""
    problems = []
    for path in root.rglob("*"):
        if path.is_dir() or path.name in _KNOWN_FILES or _TEMPORARY.fullmatch(path.name):
            continue
        if _OF_ROCKSDB.fullmatch(path.relative_to(root).parts[0]):
            continue
        if not _BLOCK.fullmatch(path.name):
            problems.append(f"an unknown file: {path.name}")
            continue
        digest, size = path.name.split("-")
        data = path.read_bytes()
        if len(data) != int(size) or graviton.HashAlgo.BLAKE3.digest(data).raw.hex() != digest:
            problems.append(f"a block that is visible and not whole: {path.name} has {len(data)} bytes")
    return problems


def bad_backup(path: Path) -> list[str]:
    """What is wrong with a backup that has its final name; nothing if there is none."""
    if not path.exists():
        return []
    try:
        with open(path, "rb") as file:
            entries = list(read_backup(file.read))
    except graviton.GravitonError as error:
        return [f"a visible backup that is not whole: {error}"]
    return [] if isinstance(entries[0], BackupHeader) and len(entries) > 10 else ["a backup without records"]


def block_key(path: Path) -> BlockKey:
    """The key that the name of a block file says."""
    return BlockKey.parse(f"blake3:{path.name.replace('-', ':')}")
