"""Looks at a store that somebody else changes, and what an open that fails leaves."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rocksdict import AccessType, Rdict

from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore, _looking
from graviton.backends.rocksdb._shadow import shadow_of
from graviton.errors import IntegrityError, Retry, Unavailable
from graviton.ports.kv import ReadTransaction
from tests.unit.rocksdb.stores import keys, opened


async def _made(path: Path) -> None:
    async with opened(path) as store:
        await store.put("a", b"key", b"value")


def _disturbed(monkeypatch: pytest.MonkeyPatch, path: Path, times: int) -> list[int]:
    """The first looks fail, as those that find a file gone; what they count."""
    tries: list[int] = []
    look = _looking._look

    def disturbed(*args: Any) -> Any:
        tries.append(len(tries))
        if len(tries) > times:
            return look(*args)
        (path / f"{900_000 + len(tries)}.sst").touch()
        raise IntegrityError("a file is missing")

    monkeypatch.setattr(_looking, "_look", disturbed)
    return tries


async def test_a_look_at_a_busy_store_is_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kv"
    await _made(path)
    tries = _disturbed(monkeypatch, path, 12)
    assert await keys(path, read_only=True) == [b"key"]
    assert len(tries) == 13


async def test_a_store_that_is_too_busy_to_be_looked_at_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kv"
    await _made(path)
    _disturbed(monkeypatch, path, 1 << 30)
    monkeypatch.setattr(_looking, "_LOOK_SECONDS", 0.1)
    async with opened(path, read_only=True) as looker, opened(path) as store:
        for call in (looker.get("a", b"key"), store.check()):
            with pytest.raises(Unavailable, match="changes while it is looked at") as caught:
                await call
            assert caught.value.retry is Retry.TEMPORARY


async def test_a_look_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kv"
    await _made(path)
    _disturbed(monkeypatch, path, 1 << 30)
    monkeypatch.setattr(_looking, "_LOOK_SECONDS", 300.0)
    async with opened(path, read_only=True) as looker:
        looking = asyncio.ensure_future(looker.get("a", b"key"))
        await asyncio.sleep(0.1)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(looking, 5)


async def test_damage_of_a_store_at_rest_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kv"
    await _made(path)
    os.truncate(max(path.glob("MANIFEST-*")), 50)
    monkeypatch.setattr(_looking, "_LOOK_SECONDS", 300.0)
    with pytest.raises(IntegrityError, match="damaged"):
        await keys(path, read_only=True)


async def test_a_look_never_shows_half_of_a_batch_in_a_new_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The families are listed, a batch makes another, the store is opened."""
    path = tmp_path / "kv"
    await _made(path)
    between: list[Callable[[], None]] = []
    families_of = _looking.families_of

    def listed(*args: Any) -> Any:
        found = families_of(*args)
        if between:
            between.pop()()
        return found

    monkeypatch.setattr(_looking, "families_of", listed)
    store = RocksKeyValueStore(RocksConfig(path))
    await store.get("a", b"key")
    loop = asyncio.get_running_loop()

    def write() -> None:
        batch = store.transact(lambda tx: (tx.put("a", b"new", b""), tx.put("fresh", b"new", b"")))
        asyncio.run_coroutine_threadsafe(batch, loop).result(10)

    between.append(write)

    def both(tx: ReadTransaction) -> tuple[bytes | None, bytes | None]:
        return tx.get("a", b"new"), tx.get("fresh", b"new")

    async with opened(path, read_only=True) as looker:
        assert await looker.read(both) == (b"", b"")
    assert between == []
    await store.aclose()


async def test_a_namespace_without_its_family_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "kv"
    await _made(path)
    options = _looking.Tuning(RocksConfig(path)).options
    raw = Rdict(str(path), options, {"ns_a": options})
    raw.drop_column_family("ns_a")
    raw.close()
    with pytest.raises(IntegrityError, match="namespace a "):
        await keys(path)


@pytest.mark.parametrize("read_only", [False, True])
async def test_an_open_that_fails_keeps_nothing_though_its_error_is_kept(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "kv"
    await _made(path)
    for table in path.glob("*.sst"):
        data = bytearray(table.read_bytes())
        if (at := data.find(b"namespace/")) >= 0:
            data[at + 3] ^= 1
            table.write_bytes(data)
    kept: list[BaseException] = []
    async with opened(path, read_only=read_only) as store:
        for _ in range(3):
            with pytest.raises(IntegrityError) as caught:
                await store.get("a", b"key")
            kept.append(caught.value)
    assert not _open_files(path)


async def test_without_a_folder_for_temporary_files_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kv"
    await _made(path)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nonexistent"])
    async with opened(path, read_only=True) as looker:
        with pytest.raises(Unavailable) as caught:
            await looker.get("a", b"key")
        assert "TMPDIR" in caught.value.hint


async def test_files_that_go_while_they_are_looked_at_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "kv"
    await _made(path)
    before = sorted(os.listdir(path))
    with shadow_of(str(path)) as shadow:
        for table in path.glob("*.sst"):
            table.unlink()
        found = Rdict(shadow, access_type=AccessType.read_only(False))
        assert found.latest_sequence_number() > 0
        found.close()
        assert {name for name in before if name.endswith("sst")} <= set(os.listdir(shadow))
    assert not os.path.exists(shadow)


def _open_files(path: Path) -> list[str]:
    return [
        found for fd in os.listdir("/proc/self/fd") if (found := _link(f"/proc/self/fd/{fd}")).startswith(str(path))
    ]


def _link(name: str) -> str:
    try:
        return os.readlink(name)
    except OSError:
        return ""
