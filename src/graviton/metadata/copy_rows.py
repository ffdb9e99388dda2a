"""Making the rows of one metadata store those of another, and comparing them.

Kinds of metadata keep the same thing in different rows. Both sides are read in one form that each of them can have;
docs/metadata-copy.md says what differs. A pass goes through both in key order and writes what differs, so it goes on
where another one was killed, and costs reading where there is nothing left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import NamedTuple

from graviton.concurrency.finishing import side_by_side
from graviton.core.hashing import HashAlgo, Hasher
from graviton.metadata.pairing import MARKER_KEY, RESTORING_KEY
from graviton.metadata.passing import without_passing
from graviton.metadata.read_only import READ_ONLY_KEY, MetadataStore
from graviton.metadata.replica_indexes import REPLICA_INDEXES
from graviton.metadata.rows import (
    BLOBS,
    CLAIMS,
    DROPPED,
    KEY_BYTES,
    OWN_NAMESPACES,
    OWNERS,
    PAGES,
    REFS,
    SCHEMAS,
    STORE,
    TOTALS,
    OwnerRow,
    blob_key_of,
    decode_blob,
)
from graviton.metadata.upload_rows import UPLOAD_NAMESPACES
from graviton.ports.block_index import OwnerState
from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction, Transaction

__all__ = ["MADE_ANEW", "Digests", "Sync", "make_claims", "read_digests", "sum_claims"]

MADE_ANEW = frozenset((TOTALS, *REPLICA_INDEXES))
"""Namespaces whose rows are worked out from those of others, when these are there."""
_FOLLOWING = MADE_ANEW | {CLAIMS}
"""Namespaces whose rows follow from those of others; they are not compared."""
_NOT_COPIED = _FOLLOWING | OWN_NAMESPACES | UPLOAD_NAMESPACES
"""Those, what each metadata store tells of itself, and uploads that go on."""

_OWN_KEYS = frozenset((MARKER_KEY, RESTORING_KEY, READ_ONLY_KEY))
"""What a metadata store says of itself and not of its contents."""

_ROWS = 1000
_LARGE_ROWS = 32
"""Rows read at once, and of namespaces with large ones: 5 MB of manifest pages."""
_LARGE = frozenset((PAGES, SCHEMAS))
_BYTES = 4 << 20
"""Bytes after which a batch ends; one row may go beyond by its own size."""

_OWNER_BYTES = 8

_Rows = list[tuple[bytes, bytes]]

Check = Callable[[Transaction], None]
Progress = Callable[[int], None]
"""Called with the number of rows that were looked at since it was called last."""


class _Batch(NamedTuple):
    rows: _Rows
    end: bytes | None
    """The last key that was looked at; None if there are none after it."""


class Digests:
    """Number and digest of the rows of each namespace, and a sum over all claims, which need no order."""

    def __init__(self) -> None:
        self._hashers: dict[str, Hasher] = {}
        self._counts: dict[str, int] = {}
        self.claims = 0

    def add(self, namespace: str, rows: _Rows) -> None:
        """The next rows of a namespace, in key order."""
        if not rows:
            return
        if namespace not in self._hashers:
            self._hashers[namespace], self._counts[namespace] = HashAlgo.BLAKE3.hasher(), 0
        self._counts[namespace] += len(rows)
        lengths = (len(part).to_bytes(4, "big") + part for row in rows for part in row)
        self._hashers[namespace].update(b"".join(lengths))
        if namespace == REFS:
            self.add_claims([(key[-_OWNER_BYTES:], key[-_OWNER_BYTES - KEY_BYTES : -_OWNER_BYTES]) for key, _ in rows])

    def add_claims(self, claims: Sequence[tuple[bytes, bytes]]) -> None:
        """Owner and block of some claims."""
        for owner, block in claims:
            self.claims += int.from_bytes(blake2b(owner + block, digest_size=16).digest(), "big")

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(self._counts.values())

    def by_namespace(self) -> dict[str, tuple[int, str]]:
        """Number of rows and digest."""
        return {name: (count, self._hashers[name].digest().hex) for name, count in self._counts.items()}

    def digest(self) -> str:
        """One over all, in hex."""
        lines = (f"{name} {count} {digest}\n" for name, (count, digest) in sorted(self.by_namespace().items()))
        return HashAlgo.BLAKE3.digest("".join(lines).encode()).hex


class Sync:
    """One pass from a source to a target. `check` is called in each transaction on the target, and may raise."""

    def __init__(
        self,
        source: KeyValueStore,
        target: MetadataStore,
        ended_ns: int,
        check: Check,
        progress: Progress,
    ) -> None:
        """Sessions that are open in the source are ended in the target since `ended_ns`."""
        self._source, self._target = source, target
        self._ended_ns = ended_ns
        self._check = check
        self._progress = progress
        self.digests = Digests()
        """Of the source."""

    async def run(self, *, last: bool) -> None:
        """Write what the target lacks or has otherwise and, if nobody writes to the source any more (`last`), remove
        what the source has not. Before that a row may seem to be gone whose place in the order was passed."""
        names = {*await self._source.namespaces(), *await self._target.namespaces()} - _NOT_COPIED
        # Owners first: what refers to one that is gone goes with it, and no claim is taken from one that seems in use.
        for name in sorted(names, key=lambda name: (name != OWNERS, name)):
            await self._namespace(name, last)

    async def _namespace(self, namespace: str, last: bool) -> None:
        after: bytes | None = None
        while True:
            read = partial(_read, namespace=namespace, after=after, ended_ns=self._ended_ns)
            ours, theirs = await side_by_side((self._source.read(read), self._target.read(read)))
            end = min((batch.end for batch in (ours, theirs) if batch.end is not None), default=None)
            wanted, there = _until(ours, end), dict(_until(theirs, end))
            self.digests.add(namespace, wanted)
            put = [(key, value) for key, value in wanted if there.get(key) != value]
            gone = sorted(there.keys() - {key for key, _ in wanted}) if last else []
            if put or gone:
                await self._target.past_gate.transact(partial(self._write, namespace, put, gone), Durability.RELAXED)
            self._progress(len(wanted))
            if end is None:
                return
            after = end

    def _write(self, namespace: str, put: _Rows, gone: Sequence[bytes], tx: Transaction) -> None:
        self._check(tx)
        tx.delete_many(namespace, gone)
        tx.put_many(namespace, put)
        if namespace == REFS and self._target.keeps_derived_rows:
            tx.delete_many(CLAIMS, sorted(_claim(key)[0] for key in gone))
            tx.put_many(CLAIMS, sorted(_claim(key) for key, _ in put))


def _claim(ref: bytes) -> tuple[bytes, bytes]:
    """The row of `claims` that says what one of `refs` says."""
    block = ref[-_OWNER_BYTES - KEY_BYTES : -_OWNER_BYTES]
    return ref[-_OWNER_BYTES:] + block, block


async def read_digests(kv: MetadataStore, progress: Progress) -> Digests:
    """Of the rows of a target, read again. Its claims are those of `claims` where these are rows of their own."""
    digests = Digests()
    for namespace in await kv.namespaces():
        if namespace in _NOT_COPIED:
            continue
        after: bytes | None = None
        while True:
            batch = await kv.read(partial(_read, namespace=namespace, after=after, ended_ns=0))
            digests.add(namespace, batch.rows)
            progress(len(batch.rows))
            if batch.end is None:
                break
            after = batch.end
    if kv.keeps_derived_rows:
        digests.claims = await sum_claims(kv)
    return digests


async def sum_claims(kv: KeyValueStore) -> int:
    """The sum over the rows of `claims`, to be compared with that over `refs`."""
    digests, after = Digests(), None
    while True:
        batch = await kv.read(partial(_read, namespace=CLAIMS, after=after, ended_ns=0))
        for key, value in batch.rows:
            blocks = [value[at : at + KEY_BYTES] for at in range(0, len(value), KEY_BYTES)]
            digests.add_claims([(key[:_OWNER_BYTES], block) for block in blocks])
        if batch.end is None:
            return digests.claims
        after = batch.end


async def make_claims(kv: KeyValueStore, check: Check) -> None:
    """Write the rows of `claims`, of which there are none, from those of `refs`."""
    after: bytes | None = None
    while True:
        batch = await kv.read(partial(_read, namespace=REFS, after=after, ended_ns=0))
        await kv.transact(partial(_put_claims, [key for key, _ in batch.rows], check), Durability.RELAXED)
        if batch.end is None:
            return
        after = batch.end


def _put_claims(refs: Sequence[bytes], check: Check, tx: Transaction) -> None:
    check(tx)
    tx.put_many(CLAIMS, sorted(_claim(key) for key in refs))


def _until(batch: _Batch, end: bytes | None) -> _Rows:
    return batch.rows if end is None else [row for row in batch.rows if row[0] <= end]


def _read(tx: ReadTransaction, namespace: str, after: bytes | None, ended_ns: int) -> _Batch:
    limit = _LARGE_ROWS if namespace in _LARGE else _ROWS
    rows: _Rows = []
    size = 0
    for row in tx.scan(namespace, b"", after, limit):
        rows.append(row)
        size += len(row[0]) + len(row[1])
        if size >= _BYTES:
            break
    end = rows[-1][0] if len(rows) == limit or size >= _BYTES else None
    return _Batch(_common(tx, namespace, rows, ended_ns), end)


def _common(tx: ReadTransaction, namespace: str, rows: _Rows, ended_ns: int) -> _Rows:
    """The rows in the form that every kind of metadata can have."""
    if namespace == OWNERS:
        return [(key, _common_owner(value, ended_ns)) for key, value in rows]
    if namespace == DROPPED:
        blobs = tx.get_many(BLOBS, [place for _, place in rows])
        return [row for row, blob in zip(rows, blobs, strict=True) if blob is not None and _names(*row, blob)]
    if namespace == STORE:
        return [row for row in rows if row[0] not in _OWN_KEYS]
    return without_passing(tx, namespace, rows)


def _common_owner(data: bytes, ended_ns: int) -> bytes:
    row = OwnerRow.decode(data)
    if row.state is OwnerState.OPEN:
        row = row.turned(OwnerState.ENDED, ended_ns)
    return row._replace(first_claims=b"").encode()


def _names(owner: bytes, place: bytes, blob: bytes) -> bool:
    return decode_blob(blob_key_of(place), blob).owner == int.from_bytes(owner, "big")
