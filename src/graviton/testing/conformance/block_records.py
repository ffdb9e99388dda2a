"""The laws of `BlockIndex`: records, damage, references, listings, domains."""

from __future__ import annotations

from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.ports.block_index import BlockState
from graviton.testing.conformance.checks import collect
from graviton.testing.conformance.metadata_values import (
    MetadataContract,
    Upload,
    block_key,
    block_keys,
    record_of,
    store_blocks,
)

__all__ = ["BlockRecordLaws"]


class BlockRecordLaws(MetadataContract):
    """Part of `BlockIndexContract`."""

    async def test_damaged_block_is_written_again_and_repaired(self) -> None:
        metadata = await self.open_metadata()
        a, b = block_keys(2)
        await store_blocks(metadata, a, b)
        old = await record_of(metadata, a)
        assert await metadata.index.mark_damaged(a, old.generation) is True
        damaged = await record_of(metadata, a)
        assert damaged.state is BlockState.DAMAGED
        assert damaged.generation > old.generation
        assert (await record_of(metadata, b)).state is BlockState.STORED
        ((session, claims),) = await metadata.index.open([[a, b]])
        assert [(claim.must_write, claim.repairs) for claim in claims] == [(True, True), (False, False)]
        pending = await record_of(metadata, a)
        assert pending.state is BlockState.PENDING
        assert pending.generation > damaged.generation
        await metadata.index.confirm(session, [a])
        repaired = await record_of(metadata, a)
        assert (repaired.state, repaired.generation) == (BlockState.STORED, pending.generation)

    async def test_damage_of_an_older_life_is_not_held_against_a_block(self) -> None:
        metadata = await self.open_metadata()
        key = block_key("a")
        await store_blocks(metadata, key)
        old = await record_of(metadata, key)
        assert await metadata.index.mark_damaged(key, old.generation) is True
        assert await metadata.index.mark_damaged(key, old.generation) is False
        await store_blocks(metadata, key)
        now = await record_of(metadata, key)
        assert now.state is BlockState.STORED
        for generation in (old.generation, now.generation - 1, now.generation + 1, 0):
            assert await metadata.index.mark_damaged(key, generation) is False
            assert await metadata.index.mark_wanted_back(key, generation) is False
        assert await record_of(metadata, key) == now

    async def test_only_stored_blocks_can_be_damaged_or_wanted_back(self) -> None:
        metadata = await self.open_metadata()
        key = block_key("a")
        for mark in (metadata.index.mark_damaged, metadata.index.mark_wanted_back):
            assert await mark(key, 0) is False
            assert await mark(key, 1) is False
        assert await metadata.index.records([key]) == [None]
        await metadata.session([key])
        pending = await record_of(metadata, key)
        assert await metadata.index.mark_damaged(key, pending.generation) is False
        assert await metadata.index.mark_wanted_back(key, pending.generation) is False
        assert await record_of(metadata, key) == pending

    async def test_wanted_back_is_a_mark_beside_the_state(self) -> None:
        metadata = await self.open_metadata()
        key = block_key("a")
        await store_blocks(metadata, key)
        before = await record_of(metadata, key)
        assert before.wanted_back is False
        assert await metadata.index.mark_wanted_back(key, before.generation) is True
        assert await record_of(metadata, key) == before._replace(wanted_back=True)
        ((_, claims),) = await metadata.index.open([[key]])
        assert claims[0].must_write is False

    async def test_references_are_owners_of_any_state_that_hold_a_claim(self) -> None:
        metadata = await self.open_metadata()
        keys = block_keys(2)
        committed = (await metadata.put(Upload.of(keys))).record.owner
        deleted = (await metadata.put(Upload.of(keys, "deleted"))).record.owner
        assert await metadata.repo.delete(Upload.of(keys, "deleted").key) is True
        opened = await metadata.session([keys[1]])
        assert await collect(metadata.index.references(keys[0])) == sorted([committed, deleted])
        assert await collect(metadata.index.references(keys[1])) == sorted([committed, deleted, opened])

    async def test_list_yields_every_record_in_key_order(self) -> None:
        metadata = await self.open_metadata()
        keys = [*block_keys(600), block_key("other", algo=HashAlgo.SHA256)]
        await store_blocks(metadata, *keys[:300])
        await metadata.session(keys[200:])
        listed = await collect(metadata.index.list())
        assert [record.key for record in listed] == sorted(keys)
        assert listed == await metadata.index.records(sorted(keys))
        for position in (0, 299, 599, 600):
            rest = await collect(metadata.index.list(after=sorted(keys)[position]))
            assert [record.key for record in rest] == sorted(keys)[position + 1 :]
        absent = block_key("absent")
        rest = await collect(metadata.index.list(after=absent))
        assert [record.key for record in rest] == [key for key in sorted(keys) if absent < key]

    async def test_keys_of_another_size_or_algorithm_are_other_blocks(self) -> None:
        metadata = await self.open_metadata()
        key = block_key("a", 100)
        others = [BlockKey(key.digest, 99), BlockKey(key.digest, 101), block_key("a", 100, HashAlgo.SHA256)]
        await store_blocks(metadata, key)
        assert await metadata.index.records(others) == [None, None, None]
        for other in others:
            assert await collect(metadata.index.references(other)) == []

    async def test_domains_share_nothing(self) -> None:
        metadata = await self.open_metadata()
        key = block_key("a")
        session = await store_blocks(metadata, key, domain="one")
        for other in ("", "two", "on", "onee", "oné"):
            assert await metadata.index.records([key], other) == [None]
            assert await collect(metadata.index.list(other)) == []
            assert await collect(metadata.index.references(key, other)) == []
            assert await metadata.index.mark_damaged(key, 1, other) is False
        ((second, claims),) = await metadata.index.open([[key]], "two")
        assert claims[0].must_write is True
        assert await collect(metadata.index.references(key, "one")) == [session]
        assert await collect(metadata.index.references(key, "two")) == [second]
        record = await record_of(metadata, key, "one")
        assert await metadata.index.mark_damaged(key, record.generation, "one") is True
        assert (await record_of(metadata, key, "two")).state is BlockState.PENDING
        assert [claim.must_write for claim in await metadata.index.claim(session, [block_key("b")])] == [True]
        assert [r.key for r in await collect(metadata.index.list("one"))] == sorted([key, block_key("b")])
