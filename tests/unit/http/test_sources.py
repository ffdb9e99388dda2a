"""In what pieces the bytes of a put leave."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from graviton.backends.http.sources import open_source
from graviton.concurrency.executors import WorkerPool
from graviton.constraints.throttle import Throttle
from graviton.ports.blobs import BlobSource
from graviton.services.sources import paced

KIB, MIB = 1024, 1024 * 1024


async def pieces_of(source: BlobSource) -> list[int]:
    """Bytes of each, the first one left out, which is gathered before anything is sent."""
    with WorkerPool(1, "test") as pool:
        sent = await open_source(source, pool)
        try:
            await sent.begin()
            run = await sent.run()
            assert run is not None
            sizes = [len(await run.next(MIB))]
            while sizes[-1]:
                sizes.append(len(await run.next(MIB)))
        finally:
            await sent.aclose()
    assert sizes[0] == MIB
    return sizes[1:-1]


async def many(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(KIB)


async def test_what_waits_for_nobody_leaves_in_large_pieces(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3 * MIB))
    assert await pieces_of(bytes(3 * MIB)) == [MIB, MIB]
    assert await pieces_of(tmp_path / "file") == [MIB, MIB]
    with (tmp_path / "file").open("rb", buffering=0) as file:
        assert await pieces_of(file) == [MIB, MIB]  # type: ignore[arg-type]


async def test_what_may_be_slow_leaves_before_much_of_it_is_gathered(tmp_path: Path) -> None:
    """The server gives up who sends nothing for 30 seconds."""
    (tmp_path / "file").write_bytes(bytes(MIB + 200 * KIB))
    expected = [64 * KIB] * 3 + [8 * KIB]
    assert await pieces_of(many(KIB + 200)) == expected
    assert await pieces_of(io.BytesIO(bytes(MIB + 200 * KIB))) == expected
    with (tmp_path / "file").open("rb", buffering=0) as file:
        assert await pieces_of(paced(file, Throttle(1024 * MIB))) == expected  # type: ignore[arg-type]
    reading, writing = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(writing, bytes(MIB + 200 * KIB)), os.close(writing)))
    with open(reading, "rb", buffering=0) as pipe:
        writer.start()
        assert await pieces_of(pipe) == expected  # type: ignore[arg-type]
        writer.join()


async def test_the_slower_the_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    async def slow() -> AsyncIterator[bytes]:
        nonlocal now
        for _ in range(KIB + 100):
            yield bytes(KIB)
            now += 0.5

    assert await pieces_of(slow()) == [64 * KIB] + [4 * KIB] * 9
