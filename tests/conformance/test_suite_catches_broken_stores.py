"""A suite that nothing can fail proves nothing: each store here breaks one law, and that law must notice.

The stores are the reference implementations with one change. They run through the runner that `graviton store check`
uses, so it is tested too. The contract classes are imported under names that pytest does not collect a second time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from graviton.backends.memory.blobs import InMemoryBlobStore
from graviton.backends.memory.blocks import InMemoryBlockStore
from graviton.backends.memory.events import InMemoryEventSink
from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.backends.memory.objects import InMemoryMutableObjectStore
from graviton.backends.memory.range_tracker import InMemoryRangeTracker
from graviton.backends.memory.reclaimer import InMemoryBlockReclaimer
from graviton.backends.memory.replicas import InMemoryReplicaIndex
from graviton.backends.memory.schemas import InMemorySchemaStore
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet, Span
from graviton.errors import NotFound
from graviton.metadata.block_index import KvBlockIndex, due_at
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.releasing import find_gone, release_some
from graviton.metadata.rows import BLOCKS, CANDIDATES, BlockRow
from graviton.ports.block_index import MAX_OPEN_NOTES, BlockState, Claim, Condemned, Released
from graviton.ports.blocks import (
    DEFAULT_WRITE_PLAN,
    BlockBatchResult,
    BlockStatus,
    BlockStore,
    BlockWritePlan,
    CanonicalBlock,
)
from graviton.ports.kv import Durability, KeyValueStore, Transaction
from graviton.ports.manifests import BlobCommit, CommitResult
from graviton.ports.objects import ObjectSource, ObjectStat
from graviton.ports.reclaimer import TrashEntry
from graviton.ports.replicas import Replica, ReplicaState
from graviton.ports.schemas import Schema
from graviton.testing.conformance.contract import Contract
from graviton.testing.conformance.metadata_values import Metadata
from graviton.testing.conformance.runner import Outcome, bind, run_contract
from tests.conformance.test_blobs import TestInMemoryBlobStore as BlobLaws
from tests.conformance.test_blocks import TestInMemoryBlockStore as BlockLaws
from tests.conformance.test_kv import TestInMemoryKeyValueStore as KvLaws
from tests.conformance.test_metadata_on_memory import TestBlobManifestRepoOnMemory as RepoLaws
from tests.conformance.test_metadata_on_memory import TestBlockIndexOnMemory as IndexLaws
from tests.conformance.test_objects import TestInMemoryMutableObjectStore as ObjectLaws
from tests.conformance.test_reclaimer import TestInMemoryBlockReclaimer as ReclaimerLaws
from tests.conformance.test_small_ports import TestInMemoryEventSink as EventLaws
from tests.conformance.test_small_ports import TestInMemoryMetrics as MetricLaws
from tests.conformance.test_small_ports import TestInMemoryRangeTracker as RangeLaws
from tests.conformance.test_small_ports import TestInMemoryReplicaIndex as ReplicaLaws
from tests.conformance.test_small_ports import TestInMemorySchemaStore as SchemaLaws

_T = TypeVar("_T")


# Key-value stores.


class NoRollback(InMemoryKeyValueStore):
    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        caught: list[Exception] = []

        def keep(tx: Transaction) -> _T | None:
            try:
                return fn(tx)
            except Exception as error:  # noqa: BLE001 - the point of this store
                caught.append(error)
                return None

        result = await super().transact(keep, durability)
        if caught:
            raise caught[0]
        return result  # type: ignore[return-value]


class LostUpdates(InMemoryKeyValueStore):
    """Runs the function on a copy while others run too, and writes what it wrote."""

    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        copy = InMemoryKeyValueStore()
        for namespace in await self.namespaces():
            pairs = await self.read(lambda tx, name=namespace: list(tx.scan(name)))  # type: ignore[misc]
            await InMemoryKeyValueStore.transact(copy, lambda tx, n=namespace, p=pairs: tx.put_many(n, p))  # type: ignore[misc]
        result = await InMemoryKeyValueStore.transact(copy, fn, durability)
        await asyncio.sleep(0)
        self._tables = copy._tables
        return result


class SignedOrder(InMemoryKeyValueStore):
    async def scan(
        self, namespace: str, prefix: bytes = b"", after: bytes | None = None
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        pairs = [pair async for pair in super().scan(namespace, prefix, after)]
        for pair in sorted(pairs, key=lambda pair: [byte - 256 if byte > 127 else byte for byte in pair[0]]):
            yield pair


class AfterIsInclusive(InMemoryKeyValueStore):
    async def scan(
        self, namespace: str, prefix: bytes = b"", after: bytes | None = None
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        if after is not None and after.startswith(prefix):
            value = await self.get(namespace, after) if after else None
            if value is not None:
                yield after, value
        async for pair in super().scan(namespace, prefix, after):
            yield pair


class EmptyIsMissing(InMemoryKeyValueStore):
    async def get(self, namespace: str, key: bytes) -> bytes | None:
        return await super().get(namespace, key) or None


class SharedNamespaces(InMemoryKeyValueStore):
    async def put(self, namespace: str, key: bytes, value: bytes) -> None:
        await super().put(namespace[:1] if namespace else namespace, key, value)


class HalfWhenCancelled(InMemoryKeyValueStore):
    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        before = {name: dict(table.pairs) for name, table in self._tables.items()}
        result = await super().transact(fn, durability)
        after = {name: dict(table.pairs) for name, table in self._tables.items()}
        if "b" in after and after["b"] != before.get("b"):
            late = after["b"]
            await InMemoryKeyValueStore.transact(self, lambda tx: tx.put_many("b", list(before.get("b", {}).items())))
            await asyncio.sleep(0)
            await InMemoryKeyValueStore.transact(self, lambda tx: tx.put_many("b", list(late.items())))
        return result


class UsableWhenClosed(InMemoryKeyValueStore):
    async def aclose(self) -> None:
        pass


# Block stores.


class WritesAgain(InMemoryBlockStore):
    """Says DUPLICATE and writes all the same."""

    async def put_blocks(self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN) -> Any:
        result = await super().put_blocks(blocks, plan)
        self.blocks.update((one.key, bytes(one.payload)) for one in blocks)
        return result


class KeepsWhatLiesThere(InMemoryBlockStore):
    async def put_blocks(self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN) -> Any:
        before = dict(self.blocks)
        result = await super().put_blocks(blocks, plan)
        self.blocks.update(before)
        return result


class TrustsItsBytes(InMemoryBlockStore):
    async def get(self, key: BlockKey) -> bytes:
        if key not in self.blocks:
            raise NotFound("no such block")
        return self.blocks[key]


class WrongIsMissing(InMemoryBlockStore):
    async def get(self, key: BlockKey) -> bytes:
        try:
            return await super().get(key)
        except Exception as error:
            raise NotFound("no such block") from error


class ListsFolders(InMemoryBlockStore):
    """`blake3/ab` only finds a folder of that name."""

    async def list(self, prefix: str = "") -> AsyncIterator[BlockKey]:
        async for key in super().list():
            name = f"{key.algo.value}/{key.hex}-{key.size}"
            if not prefix or name == prefix or name.startswith(prefix.rstrip("/") + "/"):
                yield key


class VisibleBeforeTheEnd(InMemoryBlockStore):
    async def put_blocks(self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN) -> Any:
        for one in blocks:
            self.blocks[one.key] = b""
        await asyncio.sleep(0)
        for one in blocks:
            del self.blocks[one.key]
        return await super().put_blocks(blocks, plan)


class ForgetsRepeats(InMemoryBlockStore):
    async def put_blocks(self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN) -> Any:
        return await super().put_blocks(list({one.key: one for one in blocks}.values()), plan)


class KeepsTheBuffer(InMemoryBlockStore):
    async def put_blocks(
        self, blocks: Sequence[CanonicalBlock], plan: BlockWritePlan = DEFAULT_WRITE_PLAN
    ) -> BlockBatchResult:
        result = await super().put_blocks(blocks, plan)
        fresh = {one.key for one in result.stored if one.status is BlockStatus.FRESH}
        self.blocks.update((one.key, one.payload) for one in blocks if one.key in fresh)  # type: ignore[misc]
        return result

    async def get(self, key: BlockKey) -> bytes:
        return bytes(await super().get(key))


class SharedTrashNames(InMemoryBlockReclaimer):
    async def move_to_trash(self, key: BlockKey, moved_at_ns: int) -> TrashEntry | None:
        entry = await super().move_to_trash(key, moved_at_ns)
        if entry is None:
            return None
        data = self._store.trash.pop(entry)
        self._store.trash[entry._replace(token="00")] = data
        return entry._replace(token="00")


class CopiesToTrash(InMemoryBlockReclaimer):
    async def move_to_trash(self, key: BlockKey, moved_at_ns: int) -> TrashEntry | None:
        data = self._store.blocks.get(key)
        entry = await super().move_to_trash(key, moved_at_ns)
        if data is not None:
            self._store.blocks[key] = data
        return entry


class PurgesTheKey(InMemoryBlockReclaimer):
    async def purge(self, entry: TrashEntry) -> bool:
        found = await super().purge(entry)
        for other in [other for other in self._store.trash if other.key == entry.key]:
            del self._store.trash[other]
        return found


# Object and blob stores.


class VisibleWhileWritten(InMemoryMutableObjectStore):
    async def put(self, locator: Locator, source: ObjectSource) -> ObjectStat:
        await super().put(locator, b"")
        return await super().put(locator, source)


class ListsFoldersOfObjects(InMemoryMutableObjectStore):
    async def list(self, prefix: str = "") -> AsyncIterator[ObjectStat]:
        async for stat in super().list(prefix):
            if not prefix or stat.locator.path == prefix or stat.locator.path.startswith(prefix.rstrip("/") + "/"):
                yield stat


class InclusiveSpans(InMemoryMutableObjectStore):
    async def get(self, locator: Locator, span: Span | None = None) -> AsyncIterator[bytes]:
        stat = await self.head(locator)
        if span is not None and stat is not None and span.end < stat.size:
            span = Span(span.start, span.end + 1)
        return await super().get(locator, span)


class ClipsSpans(InMemoryMutableObjectStore):
    async def get(self, locator: Locator, span: Span | None = None) -> AsyncIterator[bytes]:
        stat = await self.head(locator)
        if span is not None and stat is not None:
            span = Span(min(span.start, stat.size), min(span.end, stat.size))
        return await super().get(locator, span)


class TrustsTheClaim(InMemoryBlobStore):
    async def put(self, source: Any, plan: Any = None) -> Any:
        if plan is not None and plan.attributes.size is not None:
            plan = type(plan)(hash=plan.hash, domain=plan.domain, holder=plan.holder)
        return await super().put(source, plan)


class NoHolders(InMemoryBlobStore):
    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        return self.blobs.pop((domain, key), None) is not None


class SharesDomains(InMemoryBlobStore):
    async def stat(self, key: BlobKey, domain: str = "") -> Any:
        found = [await super(SharesDomains, self).stat(key, of) for of, _ in list(self.blobs)]
        return next((stat for stat in found if stat is not None), None)


class ServesDamage(InMemoryBlobStore):
    async def get(self, key: BlobKey, span: Span | None = None, domain: str = "") -> Any:
        reader = await super().get(key, span, domain)
        reader._verified = True  # type: ignore[attr-defined]
        return reader


class LeavesItsWriter(InMemoryBlobStore):
    async def get(self, key: BlobKey, span: Span | None = None, domain: str = "") -> Any:
        reader = await super().get(key, span, domain)

        async def write_to(fd: int) -> int:
            data = await reader.read()
            return await asyncio.get_running_loop().run_in_executor(None, os.write, fd, data)

        reader.write_to = write_to  # type: ignore[method-assign]
        return reader


# The metadata ports.


class CountsOnPending(KvBlockIndex):
    """Relies on blocks that another session only promised."""

    async def open(self, batches: Any, domain: str = "", lifetime_seconds: float = 86_400.0) -> Any:
        known = [[record is not None for record in await self.records(keys, domain)] for keys in batches]
        opened = await super().open(batches, domain, lifetime_seconds)
        for one, ks in zip(opened, known, strict=True):
            one.claims[:] = [Claim(c.key, c.must_write and not k) for c, k in zip(one.claims, ks, strict=True)]
        return opened


class DamagesTheNextLife(KvBlockIndex):
    async def mark_damaged(self, key: BlockKey, generation: int, domain: str = "") -> bool:
        (record,) = await self.records([key], domain)
        return await super().mark_damaged(key, record.generation if record else generation, domain)


class CondemnsWhatIsHeld(KvBlockIndex):
    """Looks for candidates, and not for who holds them."""

    async def condemn(self, run: str, limit: int = MAX_OPEN_NOTES) -> Condemned:
        def all_of_them(tx: Transaction) -> None:
            for block, _ in list(tx.scan(CANDIDATES)):
                tx.put(BLOCKS, block, BlockRow(BlockState.CONDEMNED, 99).encode())

        await self._kv.transact(all_of_them)
        return await super().condemn(run, limit)


class ReleasesTheYoung(KvBlockIndex):
    async def release(self, undelete_seconds: float) -> AsyncIterator[Released]:
        async for released in super().release(0.0 * undelete_seconds):
            yield released


class RemovesAtOnce(KvBlockIndex):
    """Does not keep the rows of owners for those whose reply was lost."""

    async def release(self, undelete_seconds: float) -> AsyncIterator[Released]:
        due = due_at(self._clock.now_ns(), undelete_seconds)._replace(over_until_ns=2**62)
        owners = (await self._kv.read(lambda tx: find_gone(tx, None, due))).owners
        yield (await self._kv.transact(lambda tx: release_some(tx, owners, due)))[0]


class CommitsOneByOne(KvBlobManifestRepo):
    async def commit(self, commits_: Sequence[BlobCommit]) -> list[CommitResult]:
        return [(await super(CommitsOneByOne, self).commit([one]))[0] for one in commits_]


class StreamsNothingForDeleted(KvBlobManifestRepo):
    async def pages(self, record: Any, span: Span | None = None, domain: str = "") -> Any:
        try:
            async for page in super().pages(record, span, domain):
                yield page
        except NotFound:
            return


# The smaller ports.


class KeepsOldLocators(InMemoryReplicaIndex):
    async def update(self, key: BlockKey, locators: Any) -> None:
        await super().update(key, {*await self.replicas(key), *locators})


class CountsAllCopies(InMemoryReplicaIndex):
    async def details(self, key: BlockKey) -> list[Replica]:
        return [replica._replace(state=ReplicaState.PRESENT) for replica in await super().details(key)]


class LosesConcurrentSpans(InMemoryRangeTracker):
    async def merge_many(self, locator: Locator, spans: Any) -> RangeSet:
        before = await self.current(locator)
        await asyncio.sleep(0)
        self._known[locator] = before | RangeSet(spans)
        return self._known[locator]


class NewVersionEveryTime(InMemorySchemaStore):
    async def put(self, name: str, body: bytes) -> Schema:
        before = len(self._schemas.get(name, []))
        schema = await super().put(name, body)
        if len(self._schemas[name]) == before:
            self._schemas[name].append(schema._replace(version=before + 1))
        return self._schemas[name][-1]


class DropsInSilence(InMemoryEventSink):
    @property
    def dropped(self) -> int:
        return 0


class AnyName(InMemoryMetrics):
    def counter(self, name: Any, amount: float = 1.0, **labels: str) -> None:
        if isinstance(name, str) and "made_up" not in name:
            super().counter(name, amount, **labels)  # type: ignore[arg-type]


def over(laws: type[Contract[Any]], make: Callable[..., object], **arguments: Any) -> type[Contract[Any]]:
    """The laws with another factory."""
    return type(laws.__name__, (laws,), {"make_store": lambda self: make(**arguments)})


def reclaiming(cls: type[InMemoryBlockReclaimer]) -> type[Contract[Any]]:
    def make_reclaimer(self: object, store: BlockStore) -> InMemoryBlockReclaimer:
        assert isinstance(store, InMemoryBlockStore)
        return cls(store)

    return type("Reclaiming", (ReclaimerLaws,), {"make_reclaimer": make_reclaimer})


def indexing(
    laws: type[Contract[Any]],
    index: type[KvBlockIndex] = KvBlockIndex,
    repo: type[KvBlobManifestRepo] = KvBlobManifestRepo,
) -> type[Contract[Any]]:
    def make_metadata(self: Any, store: KeyValueStore) -> Metadata:
        return Metadata(index(store, self.clock), repo(store, self.clock))

    return type("Indexing", (laws,), {"make_metadata": make_metadata})


BROKEN: list[tuple[type[Contract[Any]], str]] = [
    (over(KvLaws, NoRollback), "test_exception_undoes_everything_and_comes_back"),
    (over(KvLaws, LostUpdates), "test_concurrent_increments_are_all_counted"),
    (over(KvLaws, SignedOrder), "test_scan_is_in_order_of_unsigned_bytes"),
    (over(KvLaws, AfterIsInclusive), "test_every_prefix_and_after_gives_what_the_definition_says"),
    (over(KvLaws, EmptyIsMissing), "test_empty_value_is_a_value"),
    (over(KvLaws, SharedNamespaces), "test_namespaces_share_nothing"),
    (over(KvLaws, HalfWhenCancelled), "test_cancelled_transaction_has_happened_or_not_as_a_whole"),
    (over(KvLaws, UsableWhenClosed), "test_closed_store_is_unavailable"),
    (over(BlockLaws, WritesAgain), "test_if_absent_does_not_write_what_is_there"),
    (over(BlockLaws, KeepsWhatLiesThere), "test_always_writes_over_whatever_lies_there"),
    (over(BlockLaws, TrustsItsBytes), "test_wrong_bytes_raise_integrity_error"),
    (over(BlockLaws, WrongIsMissing), "test_wrong_bytes_raise_integrity_error"),
    (over(BlockLaws, ListsFolders), "test_list_prefix_is_the_beginning_of_the_path_name"),
    (over(BlockLaws, VisibleBeforeTheEnd), "test_cancelled_put_leaves_only_whole_blocks"),
    (over(BlockLaws, ForgetsRepeats), "test_result_keeps_the_order_given_with_repeats"),
    (over(BlockLaws, KeepsTheBuffer), "test_any_buffer_is_stored_as_it_was_during_the_call"),
    (reclaiming(SharedTrashNames), "test_two_moves_never_share_a_name"),
    (reclaiming(CopiesToTrash), "test_moved_block_is_gone_and_readable_in_the_trash"),
    (reclaiming(PurgesTheKey), "test_purge_removes_one_entry_and_nothing_else"),
    (over(ObjectLaws, VisibleWhileWritten, bucket="bucket"), "test_unfinished_put_is_invisible"),
    (over(ObjectLaws, VisibleWhileWritten, bucket="bucket"), "test_failed_put_leaves_the_old_object_and_no_trace"),
    (over(ObjectLaws, ListsFoldersOfObjects, bucket="bucket"), "test_list_prefix_is_text_not_a_folder"),
    (over(ObjectLaws, InclusiveSpans, bucket="bucket"), "test_span_is_half_open_and_exact"),
    (over(ObjectLaws, ClipsSpans, bucket="bucket"), "test_span_past_the_end_is_not_satisfiable_before_get_returns"),
    (over(BlobLaws, TrustsTheClaim), "test_claims_that_the_bytes_do_not_meet_leave_nothing"),
    (over(BlobLaws, NoHolders), "test_delete_says_whether_the_holder_held_it"),
    (over(BlobLaws, SharesDomains), "test_domains_share_nothing"),
    (over(BlobLaws, ServesDamage), "test_damaged_bytes_raise_integrity_error_and_never_leave"),
    (over(BlobLaws, LeavesItsWriter), "test_write_to_a_pipe_that_nobody_reads_can_be_left"),
    (
        indexing(IndexLaws, index=CountsOnPending),
        "test_pending_block_of_another_session_is_written_again_under_a_new_generation",
    ),
    (indexing(IndexLaws, index=DamagesTheNextLife), "test_damage_of_an_older_life_is_not_held_against_a_block"),
    (indexing(IndexLaws, index=CondemnsWhatIsHeld), "test_block_that_somebody_holds_is_not_condemned"),
    (indexing(IndexLaws, index=ReleasesTheYoung), "test_released_blob_is_not_brought_back"),
    (indexing(IndexLaws, index=RemovesAtOnce), "test_owner_stays_a_day_after_its_last_change"),
    (indexing(RepoLaws, repo=CommitsOneByOne), "test_all_commits_of_a_call_happen_or_none"),
    (indexing(RepoLaws, repo=StreamsNothingForDeleted), "test_pages_of_a_deleted_blob_are_not_found"),
    (over(ReplicaLaws, KeepsOldLocators), "test_update_replaces_the_whole_set"),
    (over(ReplicaLaws, CountsAllCopies), "test_short_of_counts_live_copies_in_key_order"),
    (over(RangeLaws, LosesConcurrentSpans), "test_concurrent_merges_lose_no_span"),
    (over(SchemaLaws, NewVersionEveryTime), "test_putting_the_newest_version_again_returns_it"),
    (over(EventLaws, DropsInSilence, capacity=100), "test_what_cannot_be_delivered_is_counted"),
    (over(MetricLaws, AnyName), "test_calls_that_are_not_legal_are_refused_and_change_nothing"),
]


@pytest.mark.parametrize(("contract", "law"), BROKEN, ids=[law for _, law in BROKEN])
async def test_broken_store_is_caught_by_its_law(contract: type[Contract[Any]], law: str, tmp_path: Path) -> None:
    (result,) = await run_contract(contract, tmp_path, [law])
    assert result.outcome is Outcome.BROKEN, result
    assert ".py:" in result.reason, "the failing line is told"


@pytest.mark.parametrize("laws", [KvLaws, BlockLaws, ReclaimerLaws, SchemaLaws], ids=lambda laws: laws.__name__)
async def test_runner_keeps_every_law_of_the_reference(laws: type[Contract[Any]], tmp_path: Path) -> None:
    results = await run_contract(laws, tmp_path)
    assert {result.outcome for result in results} == {Outcome.KEPT, Outcome.SKIPPED}
    assert all(result.reason for result in results if result.outcome is Outcome.SKIPPED)
    assert len(results) == len({result.law for result in results}) > 8


async def test_bound_contract_opens_a_scratch_space_per_law_and_removes_it(tmp_path: Path) -> None:
    opened: list[str] = []
    removed: list[str] = []

    def make(space: str, scratch: Path) -> InMemorySchemaStore:
        opened.append(space)
        assert scratch.is_dir()
        return InMemorySchemaStore()

    async def tear_down(space: str) -> None:
        removed.append(space)

    laws = bind(SchemaLaws, make, SchemaLaws.capabilities, tear_down)
    results = await run_contract(laws, tmp_path)
    kept = [result for result in results if result.outcome is Outcome.KEPT]
    assert len(kept) == len(results) - 1
    assert len(set(opened)) == len(opened) == len(kept)
    assert removed == opened


async def test_runner_is_as_strict_about_known_gaps_as_pytest(tmp_path: Path) -> None:
    gaps = {"test_empty_value_is_a_value": "planned", "test_missing_key_is_none": "is kept after all"}
    laws = type("Gaps", (over(KvLaws, EmptyIsMissing),), {"known_gaps": gaps})
    results = {result.law: result for result in await run_contract(laws, tmp_path)}
    assert results["test_empty_value_is_a_value"].outcome is Outcome.KNOWN_GAP
    assert results["test_empty_value_is_a_value"].reason == "planned"
    assert results["test_missing_key_is_none"].outcome is Outcome.BROKEN
