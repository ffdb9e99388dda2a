"""Several sessions, aborts, deletes, damage and a collector, beside a plain model of docs/block-life.md."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.core.attributes import BinaryAttributes
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import paginate
from graviton.errors import Conflict
from graviton.metadata import sessions, totals
from graviton.metadata.audit import audit
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.ports.block_index import BlockState, OwnerState
from graviton.ports.manifests import BlobCommit, StoreTotals
from tests.unit.metadata.filled import blob, block

_T = TypeVar("_T")

BLOCKS = [block(number) for number in range(12)]
block_lists = st.lists(st.sampled_from(BLOCKS), max_size=12)
holders = st.sampled_from(["", "a", "b"])


class Owner:
    """What the model knows of a session and what became of it."""

    def __init__(self) -> None:
        self.state = OwnerState.OPEN
        self.claims: dict[BlockKey, bool] = {}
        """Block to whether it has to be written and is not confirmed."""
        self.lost_a_claim = False

    @property
    def unconfirmed(self) -> set[BlockKey]:
        return {key for key, open_ in self.claims.items() if open_}


class Blob:
    """A blob that was committed, visible or not."""

    def __init__(self, owner: int, keys: list[BlockKey], holder: str) -> None:
        self.owner = owner
        self.keys = keys
        self.holders = {holder}


class Protocol(RuleBasedStateMachine):
    """Every rule does the same to the store and to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.kv = InMemoryKeyValueStore()
        self.index, self.repo = KvBlockIndex(self.kv), KvBlobManifestRepo(self.kv)
        self.owners: dict[int, Owner] = {}
        self.blocks: dict[BlockKey, BlockState] = {}
        self.blobs: dict[BlobKey, Blob] = {}
        self.runs = 0

    @initialize(one_in=st.sampled_from([1, 3, 2**62]))
    def fold(self, one_in: int) -> None:
        totals._FOLD_ONE_IN = one_in

    def teardown(self) -> None:
        totals._FOLD_ONE_IN = 64

    @staticmethod
    def do(call: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run(call)

    def refused(self, call: Coroutine[Any, Any, Any]) -> None:
        try:
            self.do(call)
        except Conflict:
            return
        raise AssertionError("Conflict was not raised")

    def pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.owners)))

    def model_claim(self, owner: Owner, keys: list[BlockKey]) -> list[tuple[bool, bool]]:
        outcomes = []
        for key in keys:
            state = self.blocks.get(key)
            must_write = key not in owner.claims and state is not BlockState.STORED
            outcomes.append((must_write, must_write and state is BlockState.DAMAGED))
            if key not in owner.claims:
                owner.claims[key] = must_write
            if must_write:
                self.blocks[key] = BlockState.PENDING
        return outcomes

    def model_confirm(self, owner: Owner, keys: set[BlockKey]) -> None:
        for key in keys & owner.unconfirmed:
            owner.claims[key] = False
            if self.blocks[key] is BlockState.PENDING:
                self.blocks[key] = BlockState.STORED

    @rule(batches=st.lists(block_lists, min_size=1, max_size=3))
    def open(self, batches: list[list[BlockKey]]) -> None:
        for opened, keys in zip(self.do(self.index.open(batches)), batches, strict=True):
            owner = self.owners[opened.session] = Owner()
            assert [(claim.must_write, claim.repairs) for claim in opened.claims] == self.model_claim(owner, keys)

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), keys=block_lists)
    def claim(self, data: st.DataObject, keys: list[BlockKey]) -> None:
        session = self.pick(data)
        owner = self.owners[session]
        if owner.state is not OwnerState.OPEN:
            self.refused(self.index.claim(session, keys))
            return
        claims = self.do(self.index.claim(session, keys))
        assert [(claim.must_write, claim.repairs) for claim in claims] == self.model_claim(owner, keys)

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        session = self.pick(data)
        owner = self.owners[session]
        keys = data.draw(st.lists(st.sampled_from(sorted(owner.claims)), max_size=6)) if owner.claims else []
        if owner.state is not OwnerState.OPEN:
            self.refused(self.index.confirm(session, keys))
            return
        self.do(self.index.confirm(session, keys))
        self.model_confirm(owner, set(keys))

    @precondition(lambda self: self.owners)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        session = self.pick(data)
        owner = self.owners[session]
        if owner.state in (OwnerState.COMMITTED, OwnerState.DROPPED):
            self.refused(self.index.end(session))
            return
        self.do(self.index.end(session))
        owner.state = OwnerState.ENDED
        owner.claims.clear()

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), holder=holders, confirm_all=st.booleans())
    def commit(self, data: st.DataObject, holder: str, confirm_all: bool) -> None:
        session = self.pick(data)
        owner = self.owners[session]
        keys = data.draw(st.lists(st.sampled_from(sorted(owner.claims)), max_size=6)) if owner.claims else []
        confirm = sorted(owner.unconfirmed) if confirm_all else []
        one = BlobCommit(session, blob(keys), paginate(keys), confirm, BinaryAttributes.EMPTY, "fixed-v1:1024", holder)
        if owner.state is not OwnerState.OPEN or (owner.unconfirmed and not confirm_all):
            self.refused(self.repo.commit([one]))
            return
        (result,) = self.do(self.repo.commit([one]))
        self.model_confirm(owner, set(confirm))
        there = self.blobs.get(blob(keys))
        assert result.created == (there is None or not self.visible(there))
        if result.created:
            owner.state = OwnerState.COMMITTED
            self.blobs[blob(keys)] = Blob(session, keys, holder)
        else:
            assert there is not None
            there.holders.add(holder)
            owner.state = OwnerState.DROPPED
            owner.claims.clear()

    def visible(self, one: Blob) -> bool:
        return self.owners[one.owner].state is OwnerState.COMMITTED

    @precondition(lambda self: self.blobs)
    @rule(data=st.data(), holder=holders)
    def delete(self, data: st.DataObject, holder: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.blobs)))
        one = self.blobs[key]
        held = self.visible(one) and holder in one.holders
        assert self.do(self.repo.delete(key, holder)) is held
        if held:
            one.holders.discard(holder)
            if not one.holders:
                self.owners[one.owner].state = OwnerState.DROPPED

    @precondition(lambda self: self.blobs)
    @rule(data=st.data(), holder=holders)
    def undelete(self, data: st.DataObject, holder: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.blobs)))
        one = self.blobs[key]
        owner = self.owners[one.owner]
        back = owner.state is OwnerState.DROPPED and not owner.lost_a_claim
        assert self.do(self.repo.undelete(key, holder)) is back
        if back:
            owner.state = OwnerState.COMMITTED
            one.holders = {holder}

    @rule(key=st.sampled_from(BLOCKS))
    def damage(self, key: BlockKey) -> None:
        (record,) = self.do(self.index.records([key]))
        generation = record.generation if record else 1
        done = self.do(self.index.mark_damaged(key, generation))
        assert done is (self.blocks.get(key) is BlockState.STORED)
        if done:
            self.blocks[key] = BlockState.DAMAGED

    @precondition(lambda self: self.owners)
    @rule(data=st.data(), limit=st.integers(1, 5))
    def collect(self, data: st.DataObject, limit: int) -> None:
        session = self.pick(data)
        owner = self.owners[session]
        call = self.kv.transact(lambda tx: sessions.drop_some_claims(tx, session, limit))
        if owner.state not in (OwnerState.DROPPED, OwnerState.ENDED):
            self.refused(call)
            return
        assert self.do(call) == min(limit, len(owner.claims))
        owner.lost_a_claim = True
        held = {key for key in BLOCKS if session in self.do(self.references(key))}
        owner.claims = {key: False for key in owner.claims if key in held}

    @rule(limit=st.integers(1, 20))
    def condemn(self, limit: int) -> None:
        """Whoever lost a claim was remembered, so in the end all that nobody holds are condemned, and no others."""
        more = True
        while more:
            self.runs += 1
            more = self.do(self.index.condemn(f"{self.runs:032x}", limit)).more
        held = {key for owner in self.owners.values() for key in owner.claims}
        for key in self.blocks.keys() - held:
            self.blocks[key] = BlockState.CONDEMNED

    async def references(self, key: BlockKey) -> list[int]:
        return [owner async for owner in self.index.references(key)]

    @invariant()
    def records_agree(self) -> None:
        records = self.do(self.index.records(BLOCKS))
        assert {record.key: record.state for record in records if record} == self.blocks

    @invariant()
    def owners_agree(self) -> None:
        for session, owner in self.owners.items():
            row = self.do(self.index.owner(session))
            assert row is not None
            assert row.state is owner.state
            if owner.state is OwnerState.OPEN:
                assert row.unconfirmed == len(owner.unconfirmed)

    @invariant()
    def claims_agree(self) -> None:
        for key in BLOCKS:
            holding = sorted(session for session, owner in self.owners.items() if key in owner.claims)
            assert self.do(self.references(key)) == holding

    @invariant()
    def visible_blobs_agree(self) -> None:
        visible = {key: one for key, one in self.blobs.items() if self.visible(one)}
        assert [record.key for record in self.do(self.repo.list())] == sorted(visible)
        for key, one in visible.items():
            assert self.blocks.keys() >= set(one.keys)
            assert self.owners[one.owner].claims.keys() >= set(one.keys)
            assert self.do(self.pages(key)) == one.keys

    async def pages(self, key: BlobKey) -> list[BlockKey]:
        record = await self.repo.get(key)
        return [found for page in [page async for page in self.repo.pages(record)] for found in page.keys]

    @invariant()
    def totals_agree(self) -> None:
        visible = [key for key, one in self.blobs.items() if self.visible(one)]
        stored = [key for key, state in self.blocks.items() if state is BlockState.STORED]
        sums = StoreTotals(len(visible), sum(key.size for key in visible), len(stored), sum(k.size for k in stored))
        assert self.do(self.repo.totals()) == sums

    @invariant()
    def audit_is_clean(self) -> None:
        async def findings() -> list[Any]:
            return [finding async for finding in audit(self.kv)]

        assert self.do(findings()) == []


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(stateful_step_count=25)
