"""Stored bytes never change: today's code writes and reads what the golden files hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import ManifestPage
from graviton.errors import IntegrityError
from graviton.metadata.backup_format import BackupHeader, Record, read_backup
from graviton.metadata.event_rows import EventHead, decode_event
from graviton.metadata.marker import StoreMarker
from graviton.metadata.replica_rows import REPLICAS, decode_copy
from graviton.metadata.rows import (
    WRITES,
    BlockRow,
    NoteRow,
    OwnerRow,
    blob_key_of,
    decode_blob,
    decode_ref,
    decode_totals,
    note_of,
    u64,
)
from graviton.metadata.upload_rows import PartRow, UploadRow, part_key
from graviton.ports.block_index import Note
from graviton.ports.events import Event, EventKind
from graviton.ports.manifests import StoreTotals
from tests.unit.metadata import golden_values
from tests.unit.metadata.golden_values import PAGES_FILE, ROWS_FILE, UPLOADS_FILE
from tests.unit.metadata.readers import reader


def load(path: Any) -> Any:
    return json.loads(path.read_text())


def test_pages_are_written_as_ever() -> None:
    assert golden_values.pages() == load(PAGES_FILE)


def test_rows_are_written_as_ever() -> None:
    assert golden_values.rows() == load(ROWS_FILE)


def test_golden_pages_are_read() -> None:
    for manifest in load(PAGES_FILE).values():
        if "pages" in manifest:
            key = BlobKey.parse(manifest["blob"])
            found = [ManifestPage.open(bytes.fromhex(page), key) for page in manifest["pages"]]
            assert [block.text for page in found for block in page.keys] == manifest["blocks"]


def test_golden_rows_are_read() -> None:
    rows = load(ROWS_FILE)
    place, value = (bytes.fromhex(text) for text in rows["blobs"])
    record = decode_blob(blob_key_of(place), value)
    assert (record.owner, record.chunker, record.attributes.file_name) == (0x0123456789ABCDEF, "fixed-v1:1024", "a.txt")
    owner = OwnerRow.decode(bytes.fromhex(rows["owners"][1]))
    assert (owner.unconfirmed, owner.domain, len(owner.first_claims), owner.losing_claims) == (3, b"dom\x00", 84, True)
    assert BlockRow.decode(bytes.fromhex(rows["blocks"][1])).wanted_back
    assert decode_ref(bytes.fromhex(rows["refs"][1])) == WRITES
    assert decode_totals(bytes.fromhex(rows["totals"][1])) == StoreTotals(1, -2, 3, -(2**40))
    place, value = (bytes.fromhex(text) for text in rows["notes"])
    noted_at_ns = 1_700_000_000_000_000_000
    note = Note("0123456789abcdef" * 2, "dom", golden_values.block(1), 3, noted_at_ns)
    assert note_of(place, NoteRow.decode(value)) == note
    assert blob_key_of(bytes.fromhex(rows["dropped"][1])) == record.key
    key, event = rows["events"]
    data = {"blocks": 1, "domain": "dömäne"}
    assert (key, decode_event(bytes.fromhex(event))) == (
        u64(8).hex(),
        Event(EventKind.BLOB_COMMITTED, noted_at_ns, record.key.text, data),
    )
    plain = decode_event(bytes.fromhex(rows["events, without data"][1]))
    assert plain == Event(EventKind.BLOCK_DAMAGED, 2, golden_values.block(1).text)
    assert EventHead.decode(bytes.fromhex(rows["events, head"][1])) == EventHead(8, 10, 7)
    name, copy_key, copy = rows["replicas"][0]
    assert name == REPLICAS
    assert decode_copy(bytes.fromhex(copy_key)[-16:], bytes.fromhex(copy)).verified_at_ns == 77
    assert StoreMarker.decode(rows["marker"].encode(), "here").metadata_id == "ff" * 16


def test_rows_of_uploads_are_written_as_ever_and_read() -> None:
    rows = load(UPLOADS_FILE)
    assert golden_values.uploads() == rows
    assert UploadRow.decode(rows["uploads"][1].encode()) == golden_values.UPLOAD
    fresh = UploadRow.decode(rows["uploads, new"][1].encode())
    assert (fresh.wishes.hash, fresh.length, fresh.key, fresh.wishes.digests) == ("sha256", None, None, ())
    key, part = (bytes.fromhex(text) for text in rows["upload_parts"])
    assert PartRow.decode(key, part) == golden_values.PART
    key, page = (bytes.fromhex(text) for text in rows["upload_pages"])
    assert part_key(key[:16], ManifestPage.from_bytes(page).end) == key


def test_damaged_rows_of_uploads_are_told() -> None:
    rows = load(UPLOADS_FILE)
    text, key, part = rows["uploads"][1], *(bytes.fromhex(text) for text in rows["upload_parts"])
    for harm in ("", "{}", "[]", text[:-1], text.replace('"version":1', '"version":2'), text.replace("aa", "é")):
        with pytest.raises(IntegrityError):
            UploadRow.decode(harm.encode("latin-1"))
    for name in ("cut_to", "offset", "session", "old_sessions", "counts", "expires_at_ns", "state", "key", "wishes"):
        for value in (1.5, "x", -1, [-1], {}):
            with pytest.raises(IntegrityError):
                UploadRow.decode(json.dumps(json.loads(text) | {name: value}).encode())
    for wrong in (b"", part[:-1], b"\x02" + part[1:]):
        with pytest.raises(IntegrityError):
            PartRow.decode(key, wrong)
    for wrong_key in (key[:-1], key[:16] + bytes(8)):
        with pytest.raises(IntegrityError):
            PartRow.decode(wrong_key, part)


def test_golden_backup_is_read() -> None:
    entries = list(read_backup(reader(bytes.fromhex(load(ROWS_FILE)["backup"]))))
    header = BackupHeader("0123456789abcdef0123456789abcdef", 99)
    assert entries == [header, Record("aa", b"k", b""), Record("bb", b"\x00", b"value")]


def test_page_layout_is_the_one_of_the_document() -> None:
    manifest = load(PAGES_FILE)["three blocks, one twice"]
    page = bytes.fromhex(manifest["pages"][0])
    assert page[:16].hex() == "01" + "01" + "0003" + "00000000" + "0000000000000000"
    assert page[16:52] == b"\x01" * 32 + (1001).to_bytes(4, "big")
    key = BlobKey.parse(manifest["blob"])
    sealed = b"graviton manifest page 1\x00" + key.to_bytes() + page[:-32]
    assert page[-32:] == key.algo.digest(sealed).raw
    assert bytes.fromhex(manifest["pages_digest"]) == key.algo.digest(page[-32:]).raw
    assert BlockKey.parse(manifest["blocks"][0]).to_bytes() == b"\x01" + b"\x01" * 32 + (1001).to_bytes(8, "big")
