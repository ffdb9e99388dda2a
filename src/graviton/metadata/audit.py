"""Recomputes what the metadata keeps, and checks the laws between its rows: part of `graviton verify --all`.

Every comparison is made inside one snapshot, so nothing that happens meanwhile is taken for damage: totals domain by
domain, manifests page by page, claims by the thousand. Memory is bounded by one manifest page and its rows. A row that
cannot be read or decoded is a finding, and the rest is checked all the same. Every row of every namespace is read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import NamedTuple

from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestPage, PageChain
from graviton.errors import IntegrityError
from graviton.metadata.audit_findings import Finding, Law, decoded, unreadable, values
from graviton.metadata.audit_totals import audit_totals, domains
from graviton.metadata.owners import load_owner
from graviton.metadata.read_only import MetadataStore
from graviton.metadata.row_walk import Row, read_rows, walk_rows
from graviton.metadata.rows import (
    BLOBS,
    BLOCKS,
    CLAIMS,
    HOLDERS,
    KEY_BYTES,
    OWNERS,
    PAGES,
    REFS,
    SCHEMAS,
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
from graviton.ports.kv import KeyValueStore, ReadTransaction
from graviton.ports.manifests import BlobRecord

__all__ = ["Finding", "Law", "audit", "domains"]

_BATCH = 1000
"""Rows looked at per snapshot: some milliseconds, and one thread hop per thousand rows."""

_LARGE_BATCH = 16
"""The same where rows are large: 2.4 MB of manifest pages."""

_MAX_REPEATS = 100_000
"""Damaged rows remembered, so that each is told once; some 20 MB."""

_OFFSET_BYTES = 8


class _Progress(NamedTuple):
    """How far one blob has been checked."""

    end: int
    chain: PageChain
    blocks: int
    sealed: bytes = b""
    """The page that was checked last, not yet added to the chain."""
    is_whole: bool = True
    """No page was damaged so far; else the numbers and digests of the others say nothing any more."""


async def audit(kv: KeyValueStore, domain: str | None = None) -> AsyncIterator[Finding]:
    """Everything that is wrong in a domain, or in all. Costs a pass over all rows; writers go on meanwhile where the
    backend can do that."""
    within = b"" if domain is None else domain_prefix(domain)
    parts = [(BLOBS, audit_totals(kv, within)), (BLOBS, _audit_blobs(kv, within)), (REFS, _audit_claims(kv, within))]
    if domain is None:
        parts.append((OWNERS, _audit_others(kv)))
    told: set[Finding] = set()
    for namespace, part in parts:
        try:
            async for finding in part:
                if finding.law is Law.ROW and len(told) < _MAX_REPEATS:
                    if finding in told:
                        continue
                    told.add(finding)
                yield finding
        except IntegrityError as error:  # the store cannot even get past the damage; the other parts are looked at
            yield Finding(Law.ROW, namespace, f"cannot be read to its end: {error}")


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
                if progress.is_whole:
                    progress.chain.add(progress.sealed)  # here, because a function that reads may be run again
        after = places[-1]


def _blobs_after(tx: ReadTransaction, within: bytes, after: bytes | None) -> list[bytes]:
    return [row.key for row in read_rows(tx, BLOBS, within, after, _BATCH)]


def _check_blob(
    tx: ReadTransaction, place: bytes, progress: _Progress | None
) -> tuple[_Progress | None, list[Finding]]:
    """Check the next page of a blob; where to go on, None at its end or if it is not visible (any more)."""
    findings: list[Finding] = []
    try:
        data = tx.get(BLOBS, place)
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
        if not read_rows(tx, HOLDERS, u64(record.owner), None, 1):
            findings.append(Finding(Law.HOLDER, record.key.text, "nobody holds it, and it is visible"))
    prefix = u64(record.owner)
    rows = read_rows(tx, PAGES, prefix, prefix + u64(progress.end), 1)
    if not rows:
        return None, findings + (_check_end(record, progress) if progress.is_whole else [])
    [row] = rows
    try:
        page = _page(record, progress, row)
    except IntegrityError as error:
        findings.append(Finding(Law.PAGES, record.key.text, str(error)))
        end = int.from_bytes(row.key[-_OFFSET_BYTES:], "big")
        return progress._replace(end=end, is_whole=False), findings
    findings += _check_blocks(tx, record.key, owner, record.owner, page)
    return progress._replace(end=page.end, blocks=progress.blocks + len(page), sealed=row.value or b""), findings


def _page(record: BlobRecord, progress: _Progress, row: Row) -> ManifestPage:
    end = int.from_bytes(row.key[-_OFFSET_BYTES:], "big")
    if row.value is None:
        raise IntegrityError(f"the manifest page that ends with byte {end - 1} cannot be read")
    page = ManifestPage.open(row.value, record.key)
    follows = not progress.is_whole or (page.number, page.offset) == (progress.chain.pages, progress.end)
    if page.end != end or not follows:
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
    findings: list[Finding] = []
    keys = {owner.domain + key.to_bytes(): key for key in page.keys}
    places = sorted(keys)
    refs = values(findings, tx, REFS, [place + u64(number) for place in places])
    records = values(findings, tx, BLOCKS, places)
    for place in places:
        key = keys[place]
        if refs.get(place + u64(number), b"damaged") is None:
            findings.append(Finding(Law.CLAIM, blob.text, f"its owner has no claim on block {key}"))
        if place not in records:
            continue
        if (data := records[place]) is None:
            findings.append(Finding(Law.RECORD, blob.text, f"block {key} has no record"))
            continue
        row = decoded(findings, BLOCKS, Row(place, data), BlockRow.decode)
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
    rows = read_rows(tx, REFS, within, after, _BATCH)
    records = values(findings, tx, BLOCKS, sorted({row.key[:-8] for row in rows}))
    owners = values(findings, tx, OWNERS, sorted({row.key[-8:] for row in rows}))
    without_record = {place for place, data in records.items() if data is None}
    condemned = {place for place, data in records.items() if data is not None and _is_condemned(place, data)}
    without_owner = {place for place, data in owners.items() if data is None}
    for row in rows:
        place = row.key
        decoded(findings, REFS, row, decode_ref)
        if place[:-8] in without_record:
            try:
                key = block_key_of(place[-8 - KEY_BYTES : -8], REFS)
            except IntegrityError as error:
                findings.append(unreadable(REFS, place, str(error)))
                continue
            findings.append(Finding(Law.RECORD, key.text, f"owner {place[-8:].hex()} claims it, and it has no record"))
        if place[:-8] in condemned:
            key = block_key_of(place[-8 - KEY_BYTES : -8], REFS)
            findings.append(Finding(Law.RECORD, key.text, f"owner {place[-8:].hex()} claims it, and it is condemned"))
        if place[-8:] in without_owner:
            findings.append(Finding(Law.OWNER, REFS, f"a claim of owner {place[-8:].hex()}, which has no row"))
    return (rows[-1].key if len(rows) == _BATCH else None), findings


def _is_condemned(place: bytes, data: bytes) -> bool:
    row = decoded([], BLOCKS, Row(place, data), BlockRow.decode)  # told with the totals if it cannot be read
    return row is not None and row.state is BlockState.CONDEMNED


# Everything else.


async def _audit_others(kv: KeyValueStore) -> AsyncIterator[Finding]:
    """Read every row that was not read above, so that none is damaged and nobody knows."""
    for namespace in await kv.namespaces():
        if namespace in (BLOBS, BLOCKS, REFS, TOTALS):
            continue
        if namespace == CLAIMS and isinstance(kv, MetadataStore) and not kv.keeps_derived_rows:
            continue  # made from rows that were read, and a sort of all claims of an owner for each thousand of them
        batch = _LARGE_BATCH if namespace in (PAGES, SCHEMAS) else _BATCH
        try:
            async for row in walk_rows(kv, namespace, b"", batch):
                findings: list[Finding] = []
                decoded(findings, namespace, row, OwnerRow.decode if namespace == OWNERS else len)
                for finding in findings:
                    yield finding
        except IntegrityError as error:
            yield Finding(Law.ROW, namespace, f"cannot be read to its end: {error}")
