"""How uploads begin: what they are for is checked before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from graviton.concurrency.finishing import finish_anyway
from graviton.core.attribute_values import SIZE
from graviton.core.limits import MAX_SIZE
from graviton.errors import Conflict, InvalidInput, LimitExceeded, Unsupported
from graviton.metadata.upload_rows import UploadRow, UploadState, WishesRow
from graviton.ports.kv import ReadTransaction, Transaction
from graviton.ports.metrics import MetricKeys
from graviton.services.uploads import counting, part_records, records
from graviton.services.uploads.kit import Kit
from graviton.services.uploads.records import alive, receiving
from graviton.services.uploads.values import (
    MAX_CONCATENATED,
    MAX_LIFETIME_SECONDS,
    MAX_METADATA_BYTES,
    UploadId,
    UploadWishes,
    new_upload_id,
)
from graviton.stores.results import wanted

__all__ = ["Creating"]


class Creating:
    """Makes rows of new uploads."""

    def __init__(self, kit: Kit, lifetime_seconds: float, max_open: int) -> None:
        self._kit, self._max_open = kit, max_open
        self._lifetime_seconds = _checked_lifetime(lifetime_seconds)

    async def create(self, wishes: UploadWishes) -> UploadId:
        """A new upload, durably. Raises InvalidInput, Unsupported, StorageFull, TooManyRequests."""
        return await self._save(self._row(wishes))

    async def concatenate(self, ids: Sequence[UploadId], wishes: UploadWishes, max_bytes: int) -> UploadId:
        """One that is made of partial ones, whose bytes are all there. Raises InvalidInput, NotFound, Conflict,
        LimitExceeded, StorageFull, TooManyRequests."""
        if not 1 <= len(ids) <= MAX_CONCATENATED:
            raise InvalidInput(f"an upload is made of 1 to {MAX_CONCATENATED} partial ones, not {len(ids)}")
        if wishes.is_partial:
            raise InvalidInput("an upload that is made of partial ones is not partial itself")
        row = self._row(wishes)
        row = row._replace(wishes=row.wishes._replace(made_of=tuple(ids)))
        row = await self._kit.kv.read(partial(_made_of, row=row))
        assert row.length is not None
        if row.length > max_bytes:
            raise LimitExceeded(f"the partial uploads have {row.length} bytes, and a blob at most {max_bytes} here")
        made = await self._save(row)
        for one in dict.fromkeys(ids):
            await self._kit.keep_session(one, await self._kit.load(one))
        return made

    async def _save(self, row: UploadRow) -> UploadId:
        id = new_upload_id()
        reservations = self._kit.reservations
        begin = reservations.begin_joined if row.wishes.made_of else reservations.begin
        await begin(id, row, row.length or 0)
        try:
            await self._kit.decide(partial(_create, id=id, row=row, max_open=self._max_open))
        except BaseException:
            await finish_anyway(self._kit.give_room_back(id, row))
            raise
        self._kit.metrics.counter(MetricKeys.UPLOADS, event="created")
        return id

    def _row(self, wishes: UploadWishes) -> UploadRow:
        plan, length = wishes.plan, wishes.length
        asked = wanted(plan, self._kit.defaults)
        _check(wishes)
        now_ns = self._kit.now_ns()
        lifetime_seconds = self._lifetime_seconds if wishes.lifetime_seconds is None else wishes.lifetime_seconds
        lifetime_ns = int(_checked_lifetime(lifetime_seconds) * 1e9)
        said = WishesRow(
            asked.hash.value,
            asked.chunker.text,
            plan.domain,
            plan.holder,
            plan.attributes,
            wishes.expected,
            tuple((claim.algo.value, claim.raw) for claim in wishes.digests),
            wishes.metadata,
            wishes.is_partial,
        )
        if wishes.expected is not None and wishes.expected.algo is not asked.hash:
            raise InvalidInput(
                f"blob {wishes.expected} is expected, but the blob is hashed with {asked.hash.value}",
                operation="upload",
                hint="Choose the hash of that blob in the plan.",
            )
        return UploadRow(said, now_ns, lifetime_ns, now_ns + lifetime_ns, now_ns, length=length)

    async def declare_length(self, id: UploadId, length: int) -> None:
        """See `Uploads.declare_length`."""
        _check_length(length)
        row = await self._kit.load(id)
        if row.length == length:
            return
        await self._kit.reservations.keep(id, row, length)
        row = await self._kit.decide(partial(_declare, id=id, length=length, now_ns=self._kit.now_ns()))
        await self._kit.keep_session(id, row)


def _check(wishes: UploadWishes) -> None:
    plan, length = wishes.plan, wishes.length
    if length is not None:
        _check_length(length)
    if plan.locator_hint is not None:
        raise Unsupported("uploads take no locator hint", operation="upload", hint="Leave it out of the plan.")
    if len(wishes.metadata.encode(errors="surrogatepass")) > MAX_METADATA_BYTES:
        raise InvalidInput(f"the metadata of an upload has at most {MAX_METADATA_BYTES} bytes", operation="upload")
    size = plan.attributes.advertised.get(SIZE)
    sizes = [size.value if size is not None else None, wishes.expected.size if wishes.expected is not None else None]
    if length is not None and any(size not in (None, length) for size in sizes):
        raise InvalidInput(f"{length} bytes are to come, and another size was announced", operation="upload")
    if wishes.is_partial and (wishes.digests or wishes.expected is not None):
        raise InvalidInput(
            "a partial upload becomes no blob, and a digest of it would never be compared",
            operation="upload",
            hint="Say what the whole must be when the partial uploads are put together.",
        )
    for claim in wishes.digests:
        claim.check()
    if len({claim.algo for claim in wishes.digests}) != len(wishes.digests):
        raise InvalidInput("two digests by one algorithm were announced", operation="upload")


def _check_length(length: int) -> None:
    if not 0 <= length <= MAX_SIZE:
        raise InvalidInput(f"an upload has 0 to {MAX_SIZE} bytes, not {length}", operation="upload")


def _checked_lifetime(seconds: float) -> float:
    if not 0 < seconds <= MAX_LIFETIME_SECONDS:
        raise InvalidInput(f"an upload lives up to {MAX_LIFETIME_SECONDS:.0f} seconds, not {seconds}")
    return seconds


def _create(tx: Transaction, id: UploadId, row: UploadRow, max_open: int) -> None:
    # What is made of others ends with them, and where nobody might begin it they would all be in each other's way.
    counting.opened(tx, 2 * max_open if row.wishes.made_of else max_open)
    if row.wishes.made_of:
        row = _made_of(tx, row)
        for text in dict.fromkeys(row.wishes.made_of):  # they are needed as long as it is
            one = UploadId(text)
            records.save(tx, one, alive(records.load(tx, one), row.created_at_ns))
    records.save(tx, id, row)


def _made_of(tx: ReadTransaction, row: UploadRow) -> UploadRow:
    """The row of an upload whose bytes are those of partial ones."""
    total = 0
    for text in dict.fromkeys(row.wishes.made_of):
        id = UploadId(text)
        part = receiving(records.load(tx, id), id)
        if not part.wishes.is_partial:
            raise InvalidInput(f"upload {id} is not partial", operation="upload", subject=id)
        if part.wishes.domain != row.wishes.domain:
            raise InvalidInput(f"upload {id} belongs to another domain", operation="upload", subject=id)
        if not part.is_complete:
            raise Conflict(f"upload {id} is not complete", operation="upload", subject=id)
        total += part.offset * row.wishes.made_of.count(text)
    _check_length(total)
    if row.length not in (None, total):
        raise InvalidInput(f"the partial uploads have {total} bytes, not {row.length}", operation="upload")
    return row._replace(length=total, offset=total, state=UploadState.FINISHING)


def _declare(tx: Transaction, id: UploadId, length: int, now_ns: int) -> UploadRow:
    row = records.load(tx, id)
    if row.length == length:
        return row
    receiving(row, id)
    if row.length is not None:
        raise Conflict(f"upload {id} has {row.length} bytes, not {length}", operation="upload", subject=id)
    bounds = part_records.held(tx, id, row).bounds
    if bounds is not None and bounds.end > length:
        raise Conflict(f"upload {id} has byte {bounds.end - 1} already", operation="upload", subject=id)
    return records.save(tx, id, alive(row, now_ns)._replace(length=length))
