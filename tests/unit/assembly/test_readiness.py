from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from graviton.assembly import readiness
from graviton.assembly.readiness import Readiness
from graviton.assembly.settings import Settings
from graviton.errors import NotFound, Unavailable
from graviton.stores.cas import CasBlobStore
from graviton.testing.fake_clock import FakeClock


class FakeParts:
    """A store whose parts answer as they are told, and count how often they are asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.metadata: BaseException = NotFound("nobody's blob")
        self.hangs: asyncio.Event | None = None
        self.manifests = SimpleNamespace(get=self._get)
        self.blocks = SimpleNamespace(exists=self._exists)

    async def _get(self, key: object) -> None:
        self.asked += 1
        raise self.metadata

    async def _exists(self, key: object) -> bool:
        if self.hangs is not None:
            await self.hangs.wait()
        return False


def made(parts: FakeParts, clock: FakeClock, **settings: Any) -> Readiness:
    return Readiness(Settings(blob_backend="memory", metadata="memory", **settings), cast(CasBlobStore, parts), clock)


async def able(ready: Readiness) -> dict[str, bool]:
    return {part.name: part.is_able for part in await ready.parts()}


async def test_each_part_says_how_it_is() -> None:
    parts, clock = FakeParts(), FakeClock()
    ready = made(parts, clock)
    assert await able(ready) == {"metadata": True, "blocks": True}
    parts.metadata = Unavailable("the database is away")
    clock.advance(1)
    found = {part.name: part for part in await ready.parts()}
    assert (found["metadata"].is_able, found["metadata"].why) == (False, "the database is away")
    assert found["blocks"].is_able


async def test_a_thousand_questions_are_one() -> None:
    parts, clock = FakeParts(), FakeClock()
    ready = made(parts, clock)
    await asyncio.gather(*(ready.parts() for _ in range(1000)))
    assert parts.asked == 1
    clock.advance(1)
    await ready.parts()
    assert parts.asked == 2


async def test_what_hangs_is_not_able_and_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PROBE_SECONDS", 0.01)
    parts, clock = FakeParts(), FakeClock()
    parts.hangs = asyncio.Event()
    ready = made(parts, clock)
    for _ in range(3):
        assert await able(ready) == {"metadata": True, "blocks": False}
        clock.advance(1)
    parts.hangs.set()
    await asyncio.sleep(0)
    assert (await able(ready))["blocks"]
    parts.hangs = asyncio.Event()
    clock.advance(1)
    await ready.parts()
    await ready.aclose()


async def test_a_full_disk_is_not_able(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    settings = Settings(fs_root=tmp_path / "not there yet", metadata="memory")
    ready = Readiness(settings, cast(CasBlobStore, FakeParts()), clock)
    assert (await able(ready))["disk"]
    monkeypatch.setattr(readiness, "MIN_FREE_BYTES", 2**62)
    clock.advance(1)
    assert not (await able(ready))["disk"]
