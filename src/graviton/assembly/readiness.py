"""Whether a store can do its work just now: its metadata, its blocks, and the disk, each asked by itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from graviton.assembly.settings import Settings
from graviton.concurrency.executors import in_own_thread
from graviton.core.clock import Clock
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.errors import NotFound
from graviton.services.machine import existing_parent
from graviton.stores.cas import CasBlobStore

__all__ = ["Part", "Readiness"]

PROBE_SECONDS: Final = 2.0
"""Who asks, a load balancer, waits for some seconds."""

FRESH_SECONDS: Final = 1.0
"""How long an answer is good for."""

MIN_FREE_BYTES: Final = 64 * 1024 * 1024
"""Below that the next put may fail, and the database has no room for its log."""

_NOBODYS: Final = Digest(HashAlgo.SHA256, bytes(32))
"""No bytes hash to it, as far as anybody knows."""


class Part(NamedTuple):
    """What a store needs."""

    name: str
    """metadata, blocks or disk."""
    is_able: bool
    why: str = ""
    """For the log: it may hold paths."""


class Readiness:
    """Asks the parts of one store, each at most once at a time and once a second, whoever wants to know: a question
    that hangs, at a disk that is gone, must not be followed by a thousand others. For the tasks of one event loop."""

    def __init__(self, settings: Settings, cas: CasBlobStore, clock: Clock) -> None:
        self._clock = clock
        self._questions: dict[str, Callable[[], Awaitable[object]]] = {
            "metadata": partial(_read_metadata, cas),
            "blocks": partial(cas.blocks.exists, BlockKey(_NOBODYS, 1)),
        }
        folders = _folders(settings)
        if folders:
            self._questions["disk"] = partial(in_own_thread, _check_free, folders)
        self._asked: dict[str, asyncio.Future[object]] = {}
        self._asked_at = -FRESH_SECONDS

    async def parts(self) -> list[Part]:
        """How each part is, within PROBE_SECONDS."""
        now = self._clock.monotonic()
        if now - self._asked_at >= FRESH_SECONDS:
            self._asked_at = now
            for name, ask in self._questions.items():
                if name not in self._asked or self._asked[name].done():
                    self._asked[name] = asyncio.ensure_future(ask())
        await asyncio.wait(self._asked.values(), timeout=PROBE_SECONDS)
        return [_part(name, asked) for name, asked in self._asked.items()]

    async def aclose(self) -> None:
        """Ask no more, and let what was asked come to an end."""
        for asked in self._asked.values():
            asked.cancel()
        if self._asked:
            await asyncio.wait(self._asked.values(), timeout=PROBE_SECONDS)


def _part(name: str, asked: asyncio.Future[object]) -> Part:
    if not asked.done():
        return Part(name, False, f"no answer within {PROBE_SECONDS:g} s")
    if asked.cancelled():
        return Part(name, False, "the server ends")
    error = asked.exception()
    return Part(name, error is None, "" if error is None else str(error))


async def _read_metadata(cas: CasBlobStore) -> None:
    try:
        await cas.manifests.get(BlobKey(_NOBODYS, 1))
    except NotFound:
        return


def _folders(settings: Settings) -> list[Path]:
    """Where this machine's disk is written to."""
    found = [settings.fs_root] if settings.blob_backend == "fs" else []
    if settings.metadata in ("sqlite", "rocksdb"):
        found.append(settings.metadata_path)
    return found


def _check_free(folders: list[Path]) -> None:
    """Raises OSError for a disk that is full."""
    for folder in folders:
        found = os.statvfs(existing_parent(folder))
        free = found.f_bavail * found.f_frsize
        if free < MIN_FREE_BYTES:
            raise OSError(f"{free} bytes are free at {folder}")
