"""What tests of the quota share: a store's metadata in memory, and blobs of any size without bytes."""

from __future__ import annotations

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.constraints.quota import Quota, QuotaLimits
from graviton.constraints.quota_rows import ALL, HELD, RESERVATIONS, SUMS, ReservationRow, SumsRow, sums_key
from graviton.core.keys import BlobKey
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.ports.kv import KeyValueStore, ReadTransaction
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_key
from graviton.testing.fake_clock import FakeClock

__all__ = ["Books", "upload"]


def upload(size: int, name: str = "") -> Upload:
    """A blob of one block of `size` bytes."""
    return Upload.of([block_key(name, size)], name)


class Books:
    """A quota, and the metadata that it is over."""

    def __init__(self, kv: KeyValueStore | None = None, **limits: int) -> None:
        self.kv = kv or InMemoryKeyValueStore()
        self.clock = FakeClock()
        self.metadata = Metadata(KvBlockIndex(self.kv, self.clock), KvBlobManifestRepo(self.kv, self.clock))
        self.quota = self.other(**limits)

    def other(self, **limits: int) -> Quota:
        """Of another process, say."""
        wanted = QuotaLimits(**limits) if limits or not hasattr(self, "quota") else self.quota.limits
        return Quota(self.kv, wanted, self.clock)

    async def put(self, blob: Upload, holder: str = "", domain: str = "") -> BlobKey:
        """Reserve, promise, commit, settle."""
        reservation = await self.quota.reserve(holder, blob.key.size, domain=domain)
        await reservation.promise(blob.key)
        await self.metadata.put(blob, holder, domain)
        await reservation.settle(blob.key)
        return blob.key

    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        """As a store does it."""
        change = await self.quota.changing(holder, key, domain)
        deleted = await self.metadata.repo.delete(key, holder, domain)
        await change.settle()
        return deleted

    async def check(self) -> None:
        """The sums are those of the rows."""
        await self.kv.read(check_rows)


def check_rows(tx: ReadTransaction) -> None:
    """The sums are those of the rows."""
    wanted: dict[bytes, list[int]] = {ALL: [0, 0, 0, 0]}
    for key, _ in tx.scan(HELD):
        own = wanted.setdefault(sums_key(key[: key.index(0)].decode()), [0, 0, 0, 0])
        own[0] += BlobKey.from_bytes(key[-41:]).size
        own[1] += 1
    for _, data in tx.scan(RESERVATIONS):
        row = ReservationRow.decode(data)
        for sums in (wanted[ALL], wanted.setdefault(sums_key(row.holder), [0, 0, 0, 0])):
            sums[2] += row.amount.bytes
            sums[3] += row.amount.blobs
    found = {key: SumsRow.decode(data) for key, data in tx.scan(SUMS)}
    assert {key: list(row) for key, row in found.items() if any(row)} == {
        key: row for key, row in wanted.items() if any(row)
    }
