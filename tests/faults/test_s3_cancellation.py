"""Operations on object storage that are cancelled at each of their requests, before and after it had its effect.

What counts is what counts for faults; and that a request which could do harm when it arrives late, a copy or a delete,
has been answered when the call ends. Of a batch, one block's failure ends the others.
"""

from __future__ import annotations

import asyncio
import secrets

import pytest

from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.errors import NotFound, PermissionDenied
from graviton.ports.blocks import BlockWritePlan, WriteMode
from graviton.testing.conformance.block_values import block, many_blocks
from tests.faults.harness.s3_object_operations import BLOB_OPERATIONS, OBJECT_OPERATIONS
from tests.faults.harness.s3_operations import BLOCK_OPERATIONS, Operation, bucket_at
from tests.s3_proxy import Exchange, Kind, Reply, S3Proxy
from tests.s3_server import default_server
from tests.support import some_bytes

pytestmark = pytest.mark.s3

OPERATIONS = BLOCK_OPERATIONS + OBJECT_OPERATIONS + BLOB_OPERATIONS
HARMFUL_WHEN_LATE = frozenset({Kind.COPY, Kind.DELETE, Kind.BULK_DELETE, Kind.COMPLETE, Kind.ABORT})


async def cancelled(operation: Operation, number: int, after_effect: bool) -> None:
    """Cancel at the request with that number, from 0."""
    kind = operation.requests[number]
    arrived, go = asyncio.Event(), asyncio.Event()

    async def pause(exchange: Exchange) -> None:
        reply: Reply | None = None
        if after_effect:
            reply = await exchange.forward()
        else:
            await exchange.body()
        arrived.set()
        await go.wait()
        await exchange.send((reply or await exchange.forward()).encode())

    behind = type(operation).server()
    straight = behind.config(bucket_at(behind), prefix=f"run-{secrets.token_hex(6)}/blocks", retry_seconds=10.0)
    await operation.prepare(straight)
    async with S3Proxy(behind) as proxy:
        operation.seen = proxy.seen
        if kind is Kind.LIST:
            proxy.page_size = 2
        proxy.plan(kind, pause, first=operation.requests[: number + 1].count(kind))
        broken = proxy.server.config(straight.bucket, prefix=straight.prefix, retry_seconds=5.0)
        call = asyncio.ensure_future(operation.call(broken))
        await asyncio.wait([call, asyncio.ensure_future(arrived.wait())], return_when=asyncio.FIRST_COMPLETED)
        assert arrived.is_set(), call
        call.cancel()
        await asyncio.sleep(0.02)
        assert kind not in HARMFUL_WHEN_LATE or not call.done(), "it may still arrive"
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        for seen in proxy.seen:
            assert seen.status or seen.kind not in HARMFUL_WHEN_LATE
        seen_then = len(proxy.seen)
        await asyncio.sleep(0.02)
        assert len(proxy.seen) == seen_then, "something goes on"
        await operation.check(straight, False)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("after_effect", [False, True], ids=["before", "after"])
async def test_cancelled_at_every_request(operation: type[Operation], after_effect: bool) -> None:
    for number in range(len(operation.requests)):
        await cancelled(operation(), number, after_effect)


async def test_one_block_of_a_batch_that_fails_ends_the_others() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(403, "AccessDenied")

    batch = [*many_blocks(30), block(some_bytes(3_000_000))]
    async with S3Proxy(default_server()) as proxy:
        config = proxy.server.config(bucket_at(default_server()), prefix=secrets.token_hex(6), max_requests=4)
        store = S3BlockStore(config)
        happened = proxy.plan(Kind.PUT, refuse, first=6)
        with pytest.raises(PermissionDenied):
            await store.put_blocks(batch, BlockWritePlan(WriteMode.ALWAYS))
        assert happened() == 1
        await asyncio.sleep(0.05)  # what was being sent may still arrive
        assert proxy.count(Kind.PUT) < 20, "those that had not begun are not begun"
        for one in batch:
            try:
                assert await store.get(one.key) == one.payload, "absent or whole"
            except NotFound:
                continue
        await store.put_blocks(batch, BlockWritePlan(WriteMode.ALWAYS))
        await store.aclose()
