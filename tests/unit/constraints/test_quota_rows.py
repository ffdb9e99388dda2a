"""Stored rows of the quota: they never change, and what is damaged is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.constraints.quota_rows import (
    ALL,
    HELD,
    HELD_ROW,
    RESERVATIONS,
    SUMS,
    Amount,
    ReservationRow,
    SumsRow,
    held_key,
    reservation_key,
    sums_key,
)
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import IntegrityError
from graviton.metadata.backup import backup_metadata
from graviton.metadata.restore import restore_metadata
from tests.unit.constraints.quotas import Books, upload

GOLDEN = Path(__file__).parents[2] / "golden/metadata/quota.json"

KEY = BlobKey(Digest(HashAlgo.BLAKE3, b"\xab" * 32), 1009)
OTHER = BlobKey(Digest(HashAlgo.SHA256, b"\xcd" * 32), 2**40)
NOW = 1_700_000_000_000_000_000

ROWS: dict[str, tuple[bytes, bytes]] = {
    f"{HELD}": (held_key("ann", "dom", KEY), HELD_ROW),
    f"{SUMS} of a holder": (sums_key("ann"), SumsRow(1009, 1, 2**40, 3).encode()),
    f"{SUMS} of the default holder": (sums_key(""), SumsRow(-1, -2, 3, 4).encode()),
    f"{SUMS} of all": (ALL, SumsRow(0, 0, 5, 6).encode()),
    f"{RESERVATIONS}": (
        reservation_key("upload-7"),
        ReservationRow("ann", "dom", Amount(2**40 + 1009, 2), 86_400 * 10**9, NOW, (KEY, OTHER)).encode(),
    ),
    f"{RESERVATIONS} that promised nothing": (
        reservation_key("é"),
        ReservationRow("", "", Amount(0, 1), 1, NOW).encode(),
    ),
}


def test_rows_are_written_as_ever() -> None:
    written = {name: [key.hex(), value.hex()] for name, (key, value) in ROWS.items()}
    assert written == json.loads(GOLDEN.read_text())


def test_golden_rows_are_read() -> None:
    rows = {name: [bytes.fromhex(text) for text in row] for name, row in json.loads(GOLDEN.read_text()).items()}
    assert SumsRow.decode(rows[f"{SUMS} of the default holder"][1]) == SumsRow(-1, -2, 3, 4)
    row = ReservationRow.decode(rows[RESERVATIONS][1])
    assert row == ReservationRow("ann", "dom", Amount(2**40 + 1009, 2), 86_400 * 10**9, NOW, (KEY, OTHER))


@pytest.mark.parametrize("decode", [SumsRow.decode, ReservationRow.decode])
def test_rows_that_are_none_are_damage(decode: object) -> None:
    for data in (b"", b"\x01", b"\x02" + bytes(32), b"\x01" + bytes(31), *(row[:-1] for _, row in ROWS.values())):
        with pytest.raises(IntegrityError):
            decode(data)  # type: ignore[operator]


async def test_a_backup_has_the_books_and_recovery_goes_on_in_what_is_restored(tmp_path: Path) -> None:
    """A put was between commit and settle, another between reserve and commit, when the backup was made."""
    books = Books(bytes=1000)
    await books.put(upload(60), "ann")
    await (await books.quota.reserve("ann", 10)).promise(upload(10, "b").key)
    await books.metadata.put(upload(10, "b"), "ann")
    await books.quota.reserve("ann", 500, id="upload-7")
    await backup_metadata(books.kv, tmp_path / "backup")
    restored = Books(InMemoryKeyValueStore(), bytes=1000)
    await restore_metadata(restored.kv, tmp_path / "backup", blocks_exist=None)
    assert await restored.quota.usage("ann") == (60, 1, 510, 2)
    restored.clock.advance(86_400)
    assert await restored.quota.recover() == 2
    assert await restored.quota.usage("ann") == await restored.quota.usage() == (70, 2, 0, 0)
    await restored.check()
