"""Closing a store that event loops of other threads are using."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import graviton
from graviton.concurrency.executors import in_own_thread
from graviton.errors import Unavailable


async def test_closing_ends_operations_of_other_loops(tmp_path: Path) -> None:
    async with graviton.open(tmp_path) as store:
        await store.put(b"the store is there")
        ended: list[str] = []

        async def put_on() -> None:
            number = 0
            while True:
                number += 1
                try:
                    await store.put(b"%d %d" % (threading.get_ident(), number))
                except Unavailable:
                    ended.append("refused")
                    return

        threads = [threading.Thread(target=lambda: asyncio.run(put_on())) for _ in range(2)]
        for thread in threads:
            thread.start()
        await asyncio.sleep(0.1)
        await asyncio.wait_for(store.aclose(), 20)
        for thread in threads:
            await in_own_thread(thread.join, 20)
        assert ended == ["refused"] * 2
