"""Using a store whose metadata file has one wrong bit: right data or a typed error, whatever bit it is."""

from __future__ import annotations

import asyncio
import shutil
import signal
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import graviton
from graviton.assembly.store import Store
from tests.faults.harness.laws import unclean
from tests.faults.harness.scenarios import KNOWN, OLD, SMALL

_SECONDS = 20
"""Everything that is done with one damaged store takes some 50 ms."""

_HONEST = (graviton.IntegrityError, graviton.ConfigError, graviton.NotFound)

Say = Callable[[str, str], None]


def use_damaged(sound: Path, work: Path, name: str, at: int, bit: int, say: Say) -> list[str]:
    """What is wrong with how a copy of the store `sound` behaves with one bit of its file `name` flipped."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(sound, work)
    data = bytearray((work / name).read_bytes())
    data[at] ^= 1 << bit
    (work / name).write_bytes(data)
    problems: list[str] = []
    try:
        with _alarm():
            asyncio.run(_use(work, problems, say, name.endswith("-wal")))
    except TimeoutError:
        problems.append("it hangs")
    except BaseException as error:  # noqa: BLE001 - the test shows it
        problems.append(f"opening or closing: {''.join(traceback.format_exception(error))}")
    return problems


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


async def _use(root: Path, problems: list[str], say: Say, wal_lost: bool) -> None:
    """`wal_lost`: SQLite ends its replay at the first frame of a WAL that is not right, because that is how the end of
    a torn one looks; what was committed after it is gone without a trace. It must be the newest then."""
    lost: list[str] = []
    async with graviton.open(root) as store:
        await _tried("list", _list(store), problems, lost)
        if wal_lost:
            await _tried("order", _nothing_newer_without_older(store), problems, lost)
        for blob in OLD:
            await _tried(f"read {blob.name}", _read(store, blob.id), problems, lost)
        found = await _tried("verify", unclean(store), problems, lost)
        if lost and found == [] and not wal_lost:
            problems.append(f"{lost} and verify finds nothing")
        say("told" if lost or found else "unnoticed", "")
        if await _tried("put", _put(store), problems, []) is not None:
            await _tried("read it", _read(store, SMALL.id), problems, lost)


async def _tried(what: str, work: Coroutine[Any, Any, Any], problems: list[str], lost: list[str]) -> Any:
    try:
        return await work
    except _HONEST as error:
        lost.append(f"{what}: {error.code}")
    except graviton.Unavailable as error:
        # One byte of SQLite's header says that the file may only be read. It looks like a failed open, and passes for
        # one: the put is refused, and nothing else suffers.
        if "SQLITE_READONLY" not in error.message:
            problems.append(f"{what}: {error}")
    except AssertionError as error:
        problems.append(f"{what}: {error}")
    except Exception as error:  # noqa: BLE001 - the test shows it
        problems.append(f"{what}: {''.join(traceback.format_exception(error))}")
    return None


async def _list(store: Store) -> None:
    there = {stat.key.text async for stat in store.list()}
    assert there <= {blob.id for blob in OLD}, "an id that was never put"
    if len(there) < len(OLD):
        raise graviton.NotFound("a blob is not listed")


async def _nothing_newer_without_older(store: Store) -> None:
    there = {stat.key.text async for stat in store.list()}
    assert [blob.id in there for blob in OLD] == [place < len(there) for place in range(len(OLD))], "a hole"


async def _read(store: Store, text: str) -> None:
    async with await store.get(graviton.BlobKey.parse(text)) as reader:
        assert await reader.read() == KNOWN[text].data, "wrong bytes"


async def _put(store: Store) -> str:
    return (await store.put(SMALL.data)).id
