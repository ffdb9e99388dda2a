"""The values behind the golden files. `python -m tests.unit.metadata.golden_values` writes them anew; a change of a
file that is already released means that stored data cannot be read any more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graviton.core.attribute_values import SIZE
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.locators import Locator
from graviton.core.manifests import ManifestPage, PageChain, paginate
from graviton.core.ranges import Span
from graviton.metadata.backup_format import BackupHeader, Encoder, Record
from graviton.metadata.event_rows import EventHead, encode_event
from graviton.metadata.marker import StoreMarker
from graviton.metadata.replica_rows import Copy, index_rows, locator_id
from graviton.metadata.rows import (
    REF_ROWS,
    RELIES,
    WRITES,
    BlockRow,
    NoteRow,
    OwnerRow,
    domain_prefix,
    encode_blob,
    encode_totals,
    run_of,
    u64,
)
from graviton.metadata.upload_rows import PartRow, UploadRow, UploadState, WishesRow, part_key
from graviton.ports.block_index import BlockState, OwnerState
from graviton.ports.events import Event, EventKind
from graviton.ports.manifests import BlobRecord, StoreTotals
from graviton.ports.replicas import ReplicaState

GOLDEN = Path(__file__).parents[2] / "golden"
PAGES_FILE = GOLDEN / "manifests/pages.json"
ROWS_FILE = GOLDEN / "metadata/rows.json"
UPLOADS_FILE = GOLDEN / "metadata/uploads.json"


def block(number: int, algo: HashAlgo = HashAlgo.BLAKE3) -> BlockKey:
    """A block key without bytes behind it."""
    return BlockKey(Digest(algo, bytes([number]) * 32), 1000 + number)


def blob(blocks: list[BlockKey], algo: HashAlgo = HashAlgo.BLAKE3) -> BlobKey:
    """A blob key of the right size."""
    return BlobKey(Digest(algo, b"\xab" * 32), sum(key.size for key in blocks))


def _manifest(blocks: list[BlockKey], key: BlobKey) -> dict[str, Any]:
    pages = paginate(blocks)
    chain = PageChain(key.algo)
    for page in pages:
        chain.add(page.seal(key))
    return {
        "blob": key.text,
        "blocks": [block.text for block in blocks],
        "pages": [page.seal(key).hex() for page in pages],
        "pages_digest": chain.digest().hex(),
    }


def pages() -> dict[str, Any]:
    """Whole manifests, and pages away from the beginning."""
    three = [block(1), block(2), block(1)]
    later = ManifestPage(7, 123_456, [block(3)])
    long_blob = BlobKey(Digest(HashAlgo.BLAKE3, b"\xcd" * 32), 2**40)
    sha = [block(n, HashAlgo.SHA256) for n in (4, 5)]
    return {
        "empty": _manifest([], blob([])),
        "one block": _manifest([block(9)], blob([block(9)])),
        "three blocks, one twice": _manifest(three, blob(three)),
        "sha256": _manifest(sha, blob(sha, HashAlgo.SHA256)),
        "page 7": {"blob": long_blob.text, "unsealed": later.to_bytes().hex(), "sealed": later.seal(long_blob).hex()},
    }


def rows() -> dict[str, Any]:
    """Key and value of a row of every namespace, in hex."""
    place, owner = domain_prefix("dom"), 0x0123456789ABCDEF
    first = bytes((WRITES,)) + block(1).to_bytes() + bytes((RELIES,)) + block(2).to_bytes()
    committed = OwnerRow(OwnerState.COMMITTED, 3, 1_700_000_000_000_000_000, 5, 7, place, first, True)
    attributes = BinaryAttributes.EMPTY.advertise({"user.name": "a.txt"}, at_ns=1).confirm({SIZE: 1009}, at_ns=2)
    record = BlobRecord(
        blob([block(9)]), owner, 1, 1, b"\xee" * 32, "fixed-v1:1024", 1_700_000_000_000_000_000, attributes
    )
    locator = Locator("file", "disk-1", "cas/blocks/x")
    copy = Copy(locator_id(locator), locator, ReplicaState.PRESENT, 77)
    marker = StoreMarker("00" * 16, "ff" * 16, HashAlgo.SHA256, "fixed-v1:1024", 1_700_000_000_000_000_000)
    committed_at = 1_700_000_000_000_000_000
    told = Event(EventKind.BLOB_COMMITTED, committed_at, record.key.text, {"blocks": 1, "domain": "dömäne"})
    encoder = Encoder()
    backup = encoder.header(BackupHeader("0123456789abcdef" * 2, 99))
    backup += encoder.record(Record("aa", b"k", b"")) + encoder.record(Record("bb", b"\x00", b"value"))
    return {
        "blobs": [(place + record.key.to_bytes()).hex(), encode_blob(record).hex()],
        "owners": [u64(owner).hex(), committed.encode().hex()],
        "owners, default domain": [
            u64(1).hex(),
            OwnerRow(OwnerState.OPEN, 0, 0, 0, 0, domain_prefix("")).encode().hex(),
        ],
        "blocks": [(place + block(1).to_bytes()).hex(), BlockRow(BlockState.STORED, 2, True).encode().hex()],
        "refs": [(place + block(1).to_bytes() + u64(owner)).hex(), REF_ROWS[WRITES].hex()],
        "dropped": [u64(owner).hex(), (place + record.key.to_bytes()).hex()],
        "notes": [
            (place + block(1).to_bytes() + run_of("0123456789abcdef" * 2)).hex(),
            NoteRow(3, 1_700_000_000_000_000_000).encode().hex(),
        ],
        "totals": [place.hex(), encode_totals(StoreTotals(1, -2, 3, -(2**40))).hex()],
        "events": [u64(8).hex(), encode_event(told).hex()],
        "events, without data": [
            u64(9).hex(),
            encode_event(Event(EventKind.BLOCK_DAMAGED, 2, block(1).text)).hex(),
        ],
        "events, head": [u64(0).hex(), EventHead(8, 10, 7).encode().hex()],
        "replicas": [[name, key.hex(), value.hex()] for name, key, value in index_rows(block(1).to_bytes(), [copy])],
        "marker": marker.encode().decode(),
        "backup": (backup + encoder.trailer()).hex(),
    }


UPLOAD = UploadRow(
    WishesRow(
        "blake3",
        "fixed-v1:1024",
        "dom",
        "somebody",
        BinaryAttributes.EMPTY.advertise({"user.name": "a.txt"}, at_ns=1),
        blob([block(9)]),
        (("sha1", b"\x11" * 20),),
        "name YQ==",
        made_of=("aa" * 16, "bb" * 16),
    ),
    created_at_ns=1_700_000_000_000_000_000,
    lifetime_ns=86_400_000_000_000,
    expires_at_ns=1_700_086_400_000_000_000,
    alive_at_ns=1_700_000_000_000_000_001,
    state=UploadState.FINISHING,
    length=2_000,
    token="cc" * 16,
    reach=1_500,
    session=0x0123456789ABCDEF,
    heir=7,
    old_sessions=(8, 9),
    leased_to_ns=1_700_172_800_000_000_000,
    cut_to=1_009,
    offset=1_200,
    parts=2,
    counts=(1, 1, 1_009, 0),
    key=blob([block(9)]),
    error=("digest_mismatch", "the bytes are others", "Send them again."),
)
PART = PartRow(Span(1_000, 1_200), b"n" * 16, 300, b"\xdd" * 32, 50)


def uploads() -> dict[str, Any]:
    """The rows of uploads."""
    id = b"\xab" * 16
    fresh = UploadRow(WishesRow("sha256", "w16-v1:256:1024:4096"), 1, 2, 3, 4)
    page = ManifestPage(0, 0, [block(9)])
    return {
        "uploads": [id.hex(), UPLOAD.encode().decode()],
        "uploads, new": [id.hex(), fresh.encode().decode()],
        "upload_parts": [part_key(id, PART.span.end).hex(), PART.encode().hex()],
        "upload_pages": [part_key(id, page.end).hex(), page.to_bytes().hex()],
    }


if __name__ == "__main__":
    for path, values in ((PAGES_FILE, pages()), (ROWS_FILE, rows()), (UPLOADS_FILE, uploads())):
        path.write_text(json.dumps(values, indent=2) + "\n")
