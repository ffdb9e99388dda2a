"""The totals of each domain counted anew, and compared with those that are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from graviton.metadata import totals
from graviton.metadata.audit_findings import Finding, Law, decoded, owner_state
from graviton.metadata.row_walk import each_row, read_rows
from graviton.metadata.rows import (
    BLOBS,
    BLOCKS,
    TOTALS,
    BlockRow,
    blob_key_of,
    decode_blob,
    decode_totals,
)
from graviton.ports.block_index import BlockState, OwnerState
from graviton.ports.kv import KeyValueStore, ReadTransaction, prefix_end
from graviton.ports.manifests import StoreTotals

__all__ = ["audit_totals", "count", "domains"]


async def audit_totals(kv: KeyValueStore, within: bytes) -> AsyncIterator[Finding]:
    """Everything wrong with the totals of the domain with the key prefix `within`, or of all, and with the rows of
    blobs and blocks."""
    async for domain in _only(within) if within else domains(kv):
        for finding in await kv.read(partial(_compare, domain=domain)):
            yield finding


async def _only(domain: bytes) -> AsyncIterator[bytes]:
    yield domain


async def domains(kv: KeyValueStore, after: bytes | None = None) -> AsyncIterator[bytes]:
    """The key prefix of every domain, beyond that of the domain `after`, that has blobs, blocks or totals, in order; of
    a damaged key, the key itself."""
    domain = await kv.read(partial(_next_domain, after=None if after is None else prefix_end(after)))
    while domain is not None:
        yield domain
        domain = await kv.read(partial(_next_domain, after=prefix_end(domain)))


def _next_domain(tx: ReadTransaction, after: bytes | None) -> bytes | None:
    """The prefix of the first domain, in order, whose keys are greater than `after`."""
    firsts = [row.key for name in (BLOBS, BLOCKS, TOTALS) for row in read_rows(tx, name, b"", after, 1)]
    return min(key[: key.find(0) + 1] or key for key in firsts) if firsts else None


def count(tx: ReadTransaction, domain: bytes, findings: list[Finding]) -> StoreTotals:
    """The totals of a domain by its visible blobs and stored blocks; rows that cannot be read do not count."""
    sums = totals.Sums()
    for row in each_row(tx, BLOBS, domain):
        record = decoded(findings, BLOBS, row, lambda data: decode_blob(blob_key_of(row.key), data))  # noqa: B023
        if record is not None and owner_state(findings, tx, record.owner) is OwnerState.COMMITTED:
            sums.add(b"", blobs=1, logical_bytes=record.key.size)
    for row in each_row(tx, BLOCKS, domain):
        block = decoded(findings, BLOCKS, row, BlockRow.decode)
        if block is not None and block.state is BlockState.STORED:
            sums.add(b"", blocks=1, stored_bytes=int.from_bytes(row.key[-8:], "big"))
    return sums.of(b"")


def _compare(tx: ReadTransaction, domain: bytes) -> list[Finding]:
    findings: list[Finding] = []
    counted = count(tx, domain, findings)
    deltas = [decoded(findings, TOTALS, row, decode_totals) for row in each_row(tx, TOTALS, domain)]
    kept = StoreTotals(*map(sum, zip(*(delta for delta in deltas if delta is not None), strict=True)))
    if None not in deltas and kept != counted:
        name = f"domain {domain[:-1].decode(errors='replace')!r}"
        findings.append(Finding(Law.TOTALS, name, f"kept {_numbers(kept)}, counted {_numbers(counted)}"))
    return findings


def _numbers(sums: StoreTotals) -> str:
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in sums._asdict().items())
