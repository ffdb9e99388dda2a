"""Making stores for tests, and looking into what they left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore


@asynccontextmanager
async def opened(path: Path, **settings: Any) -> AsyncIterator[RocksKeyValueStore]:
    """A store at `path`, closed at the end."""
    store = RocksKeyValueStore(RocksConfig(path, **settings))
    try:
        yield store
    finally:
        await store.aclose()


async def keys(path: Path, namespace: str = "a", **settings: Any) -> list[bytes]:
    """All keys, of a store opened for that."""
    async with opened(path, **settings) as store:
        return [key async for key, _ in store.scan(namespace)]
