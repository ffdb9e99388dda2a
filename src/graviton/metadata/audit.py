"""Recomputes what the metadata keeps, and checks the laws between its rows: part of `graviton verify --all`.

Every comparison is made inside one snapshot, so nothing that happens meanwhile is taken for damage: totals domain by
domain, manifests page by page, claims by the thousand. Memory is bounded by one manifest page and its rows. A row that
cannot be decoded is a finding, and the rest is checked all the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from enum import Enum
from functools import partial
from typing import NamedTuple, TypeVar

from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestPage, PageChain
from graviton.errors import IntegrityError
from graviton.metadata import totals
from graviton.metadata.owners import load_owner
from graviton.metadata.rows import (
    BLOBS,
    BLOCKS,
    HOLDERS,
    KEY_BYTES,
    OWNERS,
    PAGES,
    REFS,
    TOTALS,
    BlockRow,
    OwnerRow,
    blob_key_of,
    block_key_of,
    decode_blob,
    decode_ref,
    domain_prefix,
    u64,
)
from graviton.ports.block_index import BlockState, OwnerState
from graviton.ports.kv import KeyValueStore, ReadTransaction, prefix_end
from graviton.ports.manifests import BlobRecord, StoreTotals

__all__ = ["Finding", "Law", "audit", "domains"]

_T = TypeVar("_T")

_BATCH = 1000
"""Rows looked at per snapshot: some milliseconds, and one thread hop per thousand rows."""


class Law(Enum):
    """What a finding breaks; the values are shown and stable."""

    ROW = "row"
    """A row can be decoded."""
    TOTALS = "totals"
    """The kept totals are those of the visible blobs and stored blocks."""
    OWNER = "owner"
    """A blob and a claim have an owner."""
    HOLDER = "holder"
    """A visible blob has a holder."""
    PAGES = "pages"
    """The pages of a visible blob are sealed, cover it exactly and are those its record tells."""
    RECORD = "record"
    """A block of a visible blob, and of any claim, has a record, and is not condemned."""
    CLAIM = "claim"
    """The owner of a visible blob has a claim on each of its blocks."""


class Finding(NamedTuple):
    """One law broken at one place."""

    law: Law
    subject: str
    """Key text of the blob or block, or the name of a namespace or domain."""
    message: str


class _Progress(NamedTuple):
    """How far one blob has been checked."""

    end: int
    chain: PageChain
    blocks: int
    sealed: bytes = b""
    """The page that was checked last, not yet added to the chain."""


async def audit(kv: KeyValueStore, domain: str | None = None) -> AsyncIterator[Finding]:
    """Everything that is wrong in a domain, or in all. Costs a pass over all rows; writers go on meanwhile where the
    backend can do that."""
    within = b"" if domain is None else domain_prefix(domain)
    async for finding in _audit_totals(kv, within):
        yield finding
    async for finding in _audit_blobs(kv, within):
        yield finding
    async for finding in _audit_claims(kv, within):
        yield finding


async def _only(domain: bytes) -> AsyncIterator[bytes]:
    yield domain


# Totals.


async def _audit_totals(kv: KeyValueStore, within: bytes) -> AsyncIterator[Finding]:
    async for domain in _only(within) if within else domains(kv):
        for finding in await kv.read(partial(_compare_totals, domain=domain)):
            yield finding


async def domains(kv: KeyValueStore, after: bytes | None = None) -> AsyncIterator[bytes]:
    """The key prefix of every domain, beyond that of the domain `after`, that has blobs, blocks or totals, in order; of
    a damaged key, the key itself."""
    domain = await kv.read(partial(_next_domain, after=None if after is None else prefix_end(after)))
    while domain is not None:
        yield domain
        domain = await kv.read(partial(_next_domain, after=prefix_end(domain)))


def _next_domain(tx: ReadTransaction, after: bytes | None) -> bytes | None:
    """The prefix of the first domain, in order, whose keys are greater than `after`."""
    firsts = [key for name in (BLOBS, BLOCKS, TOTALS) for key, _ in tx.scan(name, b"", after, 1)]
    return min(key[: key.find(0) + 1] or key for key in firsts) if firsts else None


def _compare_totals(tx: ReadTransaction, domain: bytes) -> list[Finding]:
    findings: list[Finding] = []
    sums, name = totals.Sums(), f"domain {domain[:-1].decode(errors='replace')!r}"
    for place, data in tx.scan(BLOBS, domain):
        record = _decoded(findings, BLOBS, place, lambda: decode_blob(blob_key_of(place), data))  # noqa: B023
        if record is not None and _state(findings, tx, record.owner) is OwnerState.COMMITTED:
            sums.add(b"", blobs=1, logical_bytes=record.key.size)
    for place, data in tx.scan(BLOCKS, domain):
        row = _decoded(findings, BLOCKS, place, lambda: BlockRow.decode(data))  # noqa: B023
        if row is not None and row.state is BlockState.STORED:
            sums.add(b"", blocks=1, stored_bytes=int.from_bytes(place[-8:], "big"))
    kept = _decoded(findings, TOTALS, domain, lambda: totals.read(tx, domain))
    counted = sums.of(b"")
    if kept is not None and kept != counted:
        findings.append(Finding(Law.TOTALS, name, f"kept {_numbers(kept)}, counted {_numbers(counted)}"))
    return findings


def _numbers(sums: StoreTotals) -> str:
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in sums._asdict().items())


def _state(findings: list[Finding], tx: ReadTransaction, owner: int) -> OwnerState | None:
    row = _decoded(findings, OWNERS, u64(owner), lambda: load_owner(tx, owner))
    return None if row is None else row.state


def _decoded(findings: list[Finding], namespace: str, place: bytes, decode: Callable[[], _T]) -> _T | None:
    """What `decode` gives; None and a finding if it cannot."""
    try:
        return decode()
    except IntegrityError as error:
        findings.append(Finding(Law.ROW, namespace, f"{error} (key {place.hex()})"))
        return None


# Blobs, their pages and blocks.


async def _audit_blobs(kv: KeyValueStore, within: bytes) -> AsyncIterator[Finding]:
    after: bytes | None = None
    while places := await kv.read(partial(_blobs_after, within=within, after=after)):
        for place in places:
            progress: _Progress | None = None
            while True:
                progress, findings = await kv.read(partial(_check_blob, place=place, progress=progress))
                for finding in findings:
                    yield finding
                if progress is None:
                    break
                progress.chain.add(progress.sealed)  # here, because a function that reads may be run again
        after = places[-1]


def _blobs_after(tx: ReadTransaction, within: bytes, after: bytes | None) -> list[bytes]:
    return [place for place, _ in tx.scan(BLOBS, within, after, _BATCH)]


def _check_blob(
    tx: ReadTransaction, place: bytes, progress: _Progress | None
) -> tuple[_Progress | None, list[Finding]]:
    """Check the next page of a blob; where to go on, None at its end or if it is not visible (any more)."""
    findings: list[Finding] = []
    data = tx.get(BLOBS, place)
    try:
        record = None if data is None else decode_blob(blob_key_of(place), data)
        owner = None if record is None else load_owner(tx, record.owner)
    except IntegrityError:
        return None, []  # reported with the totals
    if record is None:
        return None, []
    if owner is None:
        return None, [Finding(Law.OWNER, record.key.text, f"its owner {record.owner:x} has no row")]
    if owner.state is not OwnerState.COMMITTED:
        return None, []
    if progress is None:
        progress = _Progress(0, PageChain(record.key.algo), 0)
        if next(iter(tx.scan(HOLDERS, u64(record.owner), None, 1)), None) is None:
            findings.append(Finding(Law.HOLDER, record.key.text, "nobody holds it, and it is visible"))
    row = next(iter(tx.scan(PAGES, u64(record.owner), u64(record.owner) + u64(progress.end), 1)), None)
    if row is None:
        return None, findings + _check_end(record, progress)
    try:
        page = _page(record, progress, *row)
    except IntegrityError as error:
        return None, [*findings, Finding(Law.PAGES, record.key.text, str(error))]
    findings += _check_blocks(tx, record.key, owner, record.owner, page)
    return _Progress(page.end, progress.chain, progress.blocks + len(page), row[1]), findings


def _page(record: BlobRecord, progress: _Progress, place: bytes, data: bytes) -> ManifestPage:
    page = ManifestPage.open(data, record.key)
    if (page.number, page.offset) != (progress.chain.pages, progress.end) or page.end != int.from_bytes(
        place[-8:], "big"
    ):
        raise IntegrityError(f"manifest page {page.number} does not follow byte {progress.end}")
    return page


def _check_end(record: BlobRecord, progress: _Progress) -> list[Finding]:
    told = (record.key.size, record.page_count, record.block_count, record.pages_digest)
    found = (progress.end, progress.chain.pages, progress.blocks, progress.chain.digest())
    if told == found:
        return []
    return [
        Finding(
            Law.PAGES,
            record.key.text,
            f"its record tells {told[1]} pages of {told[2]} blocks, there are {found[1]} of {found[2]}"
            f" up to byte {found[0]}{'' if told[3] == found[3] else ', with another digest'}",
        )
    ]


def _check_blocks(
    tx: ReadTransaction, blob: BlobKey, owner: OwnerRow, number: int, page: ManifestPage
) -> list[Finding]:
    keys = sorted(set(page.keys), key=lambda key: key.to_bytes())
    places = [owner.domain + key.to_bytes() for key in keys]
    refs = tx.get_many(REFS, [place + u64(number) for place in places])
    records = tx.get_many(BLOCKS, places)
    findings: list[Finding] = []
    for key, place, ref, data in zip(keys, places, refs, records, strict=True):
        if ref is None:
            findings.append(Finding(Law.CLAIM, blob.text, f"its owner has no claim on block {key}"))
        if data is None:
            findings.append(Finding(Law.RECORD, blob.text, f"block {key} has no record"))
            continue
        row = _decoded(findings, BLOCKS, place, lambda: BlockRow.decode(data))  # noqa: B023
        if row is not None and row.state is BlockState.CONDEMNED:
            findings.append(Finding(Law.RECORD, blob.text, f"block {key} is condemned"))
    return findings


# Claims.


async def _audit_claims(kv: KeyValueStore, within: bytes) -> AsyncIterator[Finding]:
    after: bytes | None = None
    while True:
        after, findings = await kv.read(partial(_check_claims, within=within, after=after))
        for finding in findings:
            yield finding
        if after is None:
            return


def _check_claims(tx: ReadTransaction, within: bytes, after: bytes | None) -> tuple[bytes | None, list[Finding]]:
    findings: list[Finding] = []
    rows = list(tx.scan(REFS, within, after, _BATCH))
    blocks = sorted({place[:-8] for place, _ in rows})
    owners = sorted({place[-8:] for place, _ in rows})
    without_record = {place for place, data in zip(blocks, tx.get_many(BLOCKS, blocks), strict=True) if data is None}
    without_owner = {place for place, data in zip(owners, tx.get_many(OWNERS, owners), strict=True) if data is None}
    for place, data in rows:
        _decoded(findings, REFS, place, lambda: decode_ref(data))  # noqa: B023
        if place[:-8] in without_record:
            key = block_key_of(place[-8 - KEY_BYTES : -8], REFS)
            findings.append(Finding(Law.RECORD, key.text, f"owner {place[-8:].hex()} claims it, and it has no record"))
        if place[-8:] in without_owner:
            findings.append(Finding(Law.OWNER, REFS, f"a claim of owner {place[-8:].hex()}, which has no row"))
    return (rows[-1][0] if len(rows) == _BATCH else None), findings
