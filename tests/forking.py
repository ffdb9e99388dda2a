"""Processes that fork while a store is open: what their children are told."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from graviton.errors import Unavailable

__all__ = ["refused_in_a_child", "run_program"]

REPOSITORY = Path(__file__).parents[1]

_PROGRAM = """
import asyncio, os, sys, threading
from pathlib import Path
from graviton.errors import Unavailable

folder = Path(sys.argv[1])
loop = asyncio.new_event_loop()

async def keys(*where):
    store = opened(*where)
    try:
        return [key async for key, _ in store.scan("a")]
    finally:
        await store.aclose()

def in_a_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            asyncio._set_running_loop(None)
            asyncio.new_event_loop().run_until_complete(work())
        except BaseException as error:
            print("in the child:", repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


def run_program(opening: str, code: str, folder: Path) -> None:
    """Run `code` as a program of its own, on `folder`. `opening` defines `opened`, which opens a key-value store; there
    are `loop`, `keys` (what a store has) and `in_a_child` (do something there, which must succeed) besides."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM + opening + code, str(folder)],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def refused_in_a_child(
    call: Callable[[], Coroutine[Any, Any, object]], lock: AbstractContextManager[object] | None = None
) -> None:
    """Fork, while another thread holds `lock`: `call` raises Unavailable in the child, and does not wait for it:
    the thread that would give it back is the parent's."""
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with lock or nullcontext():
            held.set()
            assert forked.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(30)
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)  # ends a child that hangs
        os._exit(_told(call))
    forked.set()
    other.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _told(call: Callable[[], Coroutine[Any, Any, object]]) -> int:
    """0 if the call raises what it should; the event loop of the parent is of no use here."""
    asyncio._set_running_loop(None)
    try:
        asyncio.run(call())
    except Unavailable as error:
        return 0 if "fork" in str(error) else 8
    except BaseException:  # noqa: BLE001 - the child ends here
        return 9
    return 10
