"""Workers that die, and machines that give no new ones just now."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import pytest

from graviton.server import workers
from graviton.server.workers import Workers

WORKER = "import sys, time; print('ready', flush=True); sys.stdin.read()"


class Run:
    """Workers that do nothing, and what is noted about them."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.ended: list[int] = []
        self.workers = Workers([sys.executable, "-c", WORKER], 2, 1.0, self.notes.append, self.ended.append)

    async def __aenter__(self) -> Run:
        ready = asyncio.Event()
        self.task = asyncio.create_task(self.workers.run(ready.set))
        await ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert await self.task == 0
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(signum)

    def pid(self, number: int) -> int:
        return self.workers._running[number].pid

    async def until_another(self, pid: int) -> None:
        while self.pid(0) == pid or self.workers._running[0].returncode is not None:
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_LEAST_PAUSE", 0.01)


@pytest.mark.parametrize("where", ["processes", "metrics", "notes"])
async def test_a_worker_comes_back_although_something_failed_meanwhile(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """No memory for a process, a folder that cannot be looked into, a terminal that is gone."""
    async with asyncio.timeout(30), Run() as run:
        failures = 2 if where == "processes" else 1

        def failing(real: Any) -> Any:
            def call(*args: Any, **more: Any) -> Any:
                nonlocal failures
                failures -= 1
                if failures >= 0:
                    raise OSError("just now there is none")
                return real(*args, **more)

            return call

        if where == "processes":
            real = asyncio.create_subprocess_exec
            monkeypatch.setattr(asyncio, "create_subprocess_exec", failing(real))
        else:
            name = "_ended" if where == "metrics" else "_note"
            monkeypatch.setattr(run.workers, name, failing(getattr(run.workers, name)))
        first = run.pid(0)
        os.kill(first, signal.SIGKILL)
        await run.until_another(first)
        assert failures <= 0
