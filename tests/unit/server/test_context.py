from __future__ import annotations

import asyncio
from types import TracebackType

import pytest

from graviton.errors import TooManyRequests
from graviton.server.http.context import Slots


class OneSlot:
    """A limit of one, with nobody waiting for long."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(1)

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(0.01):
                await self.free.acquire()
        except TimeoutError:
            raise TooManyRequests("all slots are in use") from None

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.free.release()


async def test_slots_count_who_runs_and_who_waits() -> None:
    slots = Slots(OneSlot())  # type: ignore[arg-type]
    async with slots:
        assert (slots.running, slots.waiting) == (1, 0)
        late = asyncio.create_task(slots.__aenter__())
        await asyncio.sleep(0)
        assert (slots.running, slots.waiting) == (1, 1)
        with pytest.raises(TooManyRequests):
            await late
        assert (slots.running, slots.waiting) == (1, 0)
    assert (slots.running, slots.waiting) == (0, 0)
    with pytest.raises(ValueError, match="x"):
        async with slots:
            raise ValueError("x")
    async with slots:
        assert slots.running == 1
