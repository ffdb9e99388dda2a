"""What the reference key-value store promises beyond its port."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.errors import LimitExceeded, Unavailable
from graviton.ports.capabilities import Capabilities
from graviton.ports.kv import ReadTransaction, Transaction


async def test_transaction_that_was_kept_is_over() -> None:
    store = InMemoryKeyValueStore()
    kept: list[Transaction] = []
    await store.transact(kept.append)
    with pytest.raises(Unavailable, match="is over"):
        kept[0].put("a", b"key", b"value")
    assert await store.get("a", b"key") is None


async def test_scan_that_was_kept_is_over() -> None:
    store = InMemoryKeyValueStore()
    await store.put("a", b"key", b"value")

    def leak(tx: ReadTransaction) -> Iterator[tuple[bytes, bytes]]:
        return tx.scan("a")

    scan = await store.read(leak)
    with pytest.raises(Unavailable, match="is over"):
        next(scan)


async def test_namespace_of_an_undone_transaction_does_not_exist() -> None:
    store = InMemoryKeyValueStore()

    def fn(tx: Transaction) -> None:
        tx.put("fresh", b"key", b"value")
        raise RuntimeError("planned")

    with pytest.raises(RuntimeError):
        await store.transact(fn)
    assert await store.namespaces() == []


async def test_limit_on_values_is_the_declared_one() -> None:
    class Small(InMemoryKeyValueStore):
        capabilities = Capabilities(max_value_bytes=3)

    store = Small()
    await store.put("a", b"key", b"123")
    with pytest.raises(LimitExceeded):
        await store.put("a", b"key", b"1234")
    assert await store.get("a", b"key") == b"123"


def test_threads_with_loops_of_their_own_share_a_store() -> None:
    store = InMemoryKeyValueStore()

    def increment(tx: Transaction) -> None:
        tx.put("n", b"counter", b"%d" % (int(tx.get("n", b"counter") or b"0") + 1))

    async def work() -> None:
        for _ in range(200):
            await store.transact(increment)

    threads = [threading.Thread(target=lambda: asyncio.run(work())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asyncio.run(store.get("n", b"counter")) == b"800"
