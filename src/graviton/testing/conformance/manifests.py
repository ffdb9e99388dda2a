"""The laws of `BlobManifestRepo`: commit, holders. Listings: manifest_lists.py; pages: manifest_pages.py;
repairs: manifest_repairs.py."""

from __future__ import annotations

from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import Conflict, NotFound
from graviton.ports.block_index import OwnerState
from graviton.ports.manifests import BlobManifestRepo, StoreTotals
from graviton.testing.conformance.checks import cancelled_everywhere, collect, gather, raises
from graviton.testing.conformance.contract import needs
from graviton.testing.conformance.manifest_lists import ManifestListLaws
from graviton.testing.conformance.manifest_pages import ManifestPageLaws
from graviton.testing.conformance.manifest_repairs import ManifestRepairLaws
from graviton.testing.conformance.metadata_values import (
    CHUNKER,
    Metadata,
    MetadataContract,
    Upload,
    block_key,
    block_keys,
    commit_of,
)

__all__ = ["BlobManifestRepoContract"]


def _named(value: str, at_ns: int = 1) -> BinaryAttributes:
    return BinaryAttributes.EMPTY.advertise({"user.name": value, f"user.{value}": value}, at_ns=at_ns)


async def _is_invisible(metadata: Metadata, key: BlobKey, domain: str = "") -> None:
    with raises(NotFound):
        await metadata.repo.get(key, domain)
    assert await metadata.repo.find([key], domain) == [None]
    assert key not in [record.key for record in await metadata.repo.list(domain=domain)]


async def _state(metadata: Metadata, owner: int) -> OwnerState:
    record = await metadata.index.owner(owner)
    assert record is not None
    return record.state


class _CommitLaws(MetadataContract):
    async def test_committed_blob_is_visible_with_its_record(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(10))
        session = await metadata.session(upload.blocks)
        (result,) = await metadata.repo.commit([commit_of(session, upload, attributes=_named("file"))])
        record = result.record
        assert result.created is True
        assert (record.key, record.owner, record.chunker) == (upload.key, session, CHUNKER)
        assert (record.page_count, record.block_count) == (1, 10)
        assert record.attributes == _named("file")
        assert record.created_at_ns > 0
        assert await metadata.repo.get(upload.key) == record
        assert await metadata.repo.list() == [record]
        assert await _state(metadata, session) is OwnerState.COMMITTED

    async def test_unknown_blob_is_not_found(self) -> None:
        metadata = await self.open_metadata()
        await metadata.put(Upload.of(block_keys(2)))
        unknown = Upload.of(block_keys(2), "unknown").key
        await _is_invisible(metadata, unknown)
        assert await metadata.repo.delete(unknown) is False
        assert await metadata.repo.undelete(unknown) is False

    async def test_everything_before_commit_is_invisible(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(3))
        session = await metadata.session(upload.blocks)
        await metadata.repo.add_pages(session, upload.pages, upload.blocks)
        await _is_invisible(metadata, upload.key)
        assert (await metadata.repo.totals()).blobs == 0
        (result,) = await metadata.repo.commit([commit_of(session, upload, pages=[], confirm=[])])
        assert result.created is True
        assert [record.key for record in await metadata.repo.list()] == [upload.key]

    async def test_empty_blob_has_no_pages(self) -> None:
        metadata = await self.open_metadata()
        for algo in HashAlgo:
            record = (await metadata.put(Upload.of([], algo=algo))).record
            assert (record.page_count, record.block_count, record.key.size) == (0, 0, 0)
            assert await metadata.repo.get(record.key) == record
            assert await collect(metadata.repo.pages(record)) == []

    async def test_unconfirmed_session_is_refused_and_may_try_again(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(4))
        session = await metadata.session(upload.blocks)
        for confirm in ([], upload.blocks[:3]):
            with raises(Conflict):
                await metadata.repo.commit([commit_of(session, upload, confirm=confirm)])
            await _is_invisible(metadata, upload.key)
            assert await metadata.repo.totals() == StoreTotals()
        assert await _state(metadata, session) is OwnerState.OPEN
        await metadata.index.confirm(session, upload.blocks[:3])
        (result,) = await metadata.repo.commit([commit_of(session, upload, confirm=upload.blocks[3:])])
        assert result.created is True

    async def test_confirming_foreign_claims_is_refused(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(2))
        session = await metadata.session(upload.blocks)
        with raises(Conflict):
            await metadata.repo.commit([commit_of(session, upload, confirm=[*upload.blocks, block_key("foreign")])])
        await _is_invisible(metadata, upload.key)
        with raises(Conflict):
            await metadata.repo.add_pages(session, upload.pages, [block_key("foreign")])
        assert await metadata.index.records([block_key("foreign")]) == [None]

    async def test_all_commits_of_a_call_happen_or_none(self) -> None:
        metadata = await self.open_metadata()
        uploads = [Upload.of(block_keys(3, name), name) for name in "abc"]
        sessions = [await metadata.session(upload.blocks) for upload in uploads]
        await metadata.index.end(sessions[2])
        commits = [commit_of(session, upload) for session, upload in zip(sessions, uploads, strict=True)]
        with raises(Conflict):
            await metadata.repo.commit(commits)
        assert await metadata.repo.list() == []
        assert await metadata.repo.totals() == StoreTotals()
        assert [await _state(metadata, session) for session in sessions[:2]] == [OwnerState.OPEN] * 2
        results = await metadata.repo.commit(commits[:2])
        assert [result.record.key for result in results] == [upload.key for upload in uploads[:2]]
        assert await metadata.repo.commit([]) == []

    async def test_existing_blob_keeps_its_manifest_and_the_new_owner_is_dropped(self) -> None:
        metadata = await self.open_metadata()
        first = (await metadata.put(Upload.of(block_keys(4)), attributes=_named("one"))).record
        other_cut = Upload(first.key, [block_key("whole", first.key.size)])
        self.clock.advance(60)
        session = await metadata.session(other_cut.blocks)
        (result,) = await metadata.repo.commit([commit_of(session, other_cut, attributes=_named("two", 2))])
        assert result.created is False
        merged = first._replace(attributes=_named("one").merge(_named("two", 2)))
        assert result.record == await metadata.repo.get(first.key) == merged
        assert await _state(metadata, session) is OwnerState.DROPPED
        (page,) = await collect(metadata.repo.pages(merged))
        assert list(page.keys) == block_keys(4)
        assert (await metadata.repo.totals()).blobs == 1

    async def test_several_commits_of_one_blob_are_as_if_one_after_the_other(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(3))
        sessions = [await metadata.session(upload.blocks) for _ in range(3)]
        commits = [commit_of(one, upload, holder=f"h{n}", attributes=_named(f"n{n}")) for n, one in enumerate(sessions)]
        results = await metadata.repo.commit(commits)
        assert [result.created for result in results] == [True, False, False]
        record = await metadata.repo.get(upload.key)
        assert record.owner == sessions[0]
        assert record == results[2].record
        assert {"user.n0", "user.n1", "user.n2"} <= set(record.attributes.custom)
        assert (await metadata.repo.totals()).blobs == 1
        assert [await metadata.repo.delete(upload.key, f"h{n}") for n in (1, 0)] == [True, True]
        assert await metadata.repo.get(upload.key) == record

    async def test_of_concurrent_commits_of_one_blob_one_creates_it(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(3))
        results = await gather(*(metadata.put(upload, holder=f"h{n}") for n in range(12)))
        assert [result.created for result in results].count(True) == 1
        assert {result.record.owner for result in results} == {(await metadata.repo.get(upload.key)).owner}
        assert await metadata.repo.totals() == StoreTotals(1, upload.key.size, 3, upload.key.size)
        assert await gather(*(metadata.repo.delete(upload.key, f"h{n}") for n in range(12))) == [True] * 12
        await _is_invisible(metadata, upload.key)

    async def test_cancelled_commit_has_happened_or_not_and_can_be_repeated(self) -> None:
        metadata = await self.open_metadata()
        number = 0
        session = await metadata.session(block_keys(3))

        def upload() -> Upload:
            return Upload.of(block_keys(3), f"blob {number}")

        async def commit() -> None:
            await metadata.repo.commit([commit_of(session, upload())])

        async for attempt in cancelled_everywhere(commit):
            state = await _state(metadata, session)
            assert attempt.cancelled or state is OwnerState.COMMITTED
            if state is OwnerState.OPEN:
                await _is_invisible(metadata, upload().key)
                await commit()
            assert (await metadata.repo.get(upload().key)).owner == session
            number += 1
            session = await metadata.session(upload().blocks)

    @needs("persistent")
    async def test_commits_and_deletes_are_there_after_reopening(self) -> None:
        metadata = await self.open_metadata()
        kept = (await metadata.put(Upload.of(block_keys(3), "kept"), "me", attributes=_named("file"))).record
        gone = (await metadata.put(Upload.of(block_keys(3), "gone"))).record
        assert await metadata.repo.delete(gone.key) is True
        totals = await metadata.repo.totals()
        metadata = await self.reopened()
        assert await metadata.repo.list() == [kept]
        assert len(await collect(metadata.repo.pages(kept))) == 1
        assert await metadata.repo.totals() == totals
        await _is_invisible(metadata, gone.key)
        assert await metadata.repo.undelete(gone.key) is True
        assert await metadata.repo.get(gone.key) == gone


class _HolderLaws(MetadataContract):
    async def test_blob_disappears_with_its_last_holder(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(2))
        for holder in ("", "one", "two", "one"):
            await metadata.put(upload, holder)
        record = await metadata.repo.get(upload.key)
        assert await metadata.repo.delete(upload.key, "three") is False
        for holder in ("one", ""):
            assert await metadata.repo.delete(upload.key, holder) is True
            assert await metadata.repo.delete(upload.key, holder) is False
            assert await metadata.repo.get(upload.key) == record
        assert await metadata.repo.delete(upload.key, "two") is True
        assert await metadata.repo.delete(upload.key, "two") is False
        await _is_invisible(metadata, upload.key)
        assert await _state(metadata, record.owner) is OwnerState.DROPPED

    async def test_delete_keeps_blocks_and_references_until_they_are_collected(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(2))
        record = (await metadata.put(upload)).record
        blocks = await metadata.index.records(upload.blocks)
        assert await metadata.repo.delete(upload.key) is True
        assert await metadata.index.records(upload.blocks) == blocks
        assert await collect(metadata.index.references(upload.blocks[0])) == [record.owner]

    async def test_undelete_brings_the_blob_back(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(2))
        record = (await metadata.put(upload, "me", attributes=_named("file"))).record
        assert await metadata.repo.undelete(upload.key, "me") is False, "it is there"
        assert await metadata.repo.delete(upload.key, "me") is True
        assert await metadata.repo.undelete(upload.key, "me") is True
        assert await metadata.repo.undelete(upload.key, "me") is False
        assert await metadata.repo.get(upload.key) == record
        assert len(await collect(metadata.repo.pages(record))) == 1
        assert await _state(metadata, record.owner) is OwnerState.COMMITTED
        assert await metadata.repo.delete(upload.key, "me") is True
        await _is_invisible(metadata, upload.key)

    async def test_deleted_blob_can_be_put_again(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(2))
        first = (await metadata.put(upload, "old", attributes=_named("old"))).record
        await metadata.repo.delete(upload.key, "old")
        result = await metadata.put(upload, "new", attributes=_named("new"))
        assert result.created is True
        assert result.record.owner != first.owner
        assert await metadata.repo.get(upload.key) == result.record
        assert await metadata.repo.undelete(upload.key, "old") is False
        assert await metadata.repo.delete(upload.key, "old") is False
        assert await metadata.repo.delete(upload.key, "new") is True
        await _is_invisible(metadata, upload.key)

    async def test_of_concurrent_deletes_one_takes_the_holder_away(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(2))
        await metadata.put(upload)
        assert (await gather(*(metadata.repo.delete(upload.key) for _ in range(8)))).count(True) == 1
        assert await metadata.repo.totals() == StoreTotals(0, 0, 2, upload.key.size)

    async def test_domains_share_nothing(self) -> None:
        metadata = await self.open_metadata()
        upload = Upload.of(block_keys(2))
        one = (await metadata.put(upload, domain="one")).record
        for other in ("", "two", "on", "onee"):
            await _is_invisible(metadata, upload.key, other)
            assert await metadata.repo.delete(upload.key, domain=other) is False
            assert await metadata.repo.totals(other) == StoreTotals()
        two = await metadata.put(upload, domain="two")
        assert two.created is True
        assert await metadata.repo.delete(upload.key, domain="two") is True
        assert await metadata.repo.get(upload.key, "one") == one
        assert await metadata.repo.list(domain="one") == [one]
        assert await metadata.repo.undelete(upload.key, domain="") is False


class BlobManifestRepoContract(ManifestRepairLaws, ManifestPageLaws, ManifestListLaws, _HolderLaws, _CommitLaws):
    """All laws of `graviton.ports.manifests`."""

    port = BlobManifestRepo
