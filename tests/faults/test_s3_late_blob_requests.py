"""Whole blobs and requests that arrive when nobody reckons with them any more (docs/decisions/0030): what was
acknowledged stays, or a put is refused until servers refuse the late request; also by the next process, whose clock
says nothing of when anything was sent.

A store at another address shares nothing with the first one in the process: it stands for the next process.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime

import pytest

from graviton.backends.objectstore.blobs import S3BlobStore
from graviton.core.attributes import BinaryAttributes
from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.errors import NotFound, Retry, Unavailable
from tests.faults.harness.s3_operations import bucket_at
from tests.s3_faults import hold
from tests.s3_proxy import Exchange, Fault, Headers, Kind, S3Proxy
from tests.s3_server import S3Server, default_server, moto_server
from tests.support import some_bytes

pytestmark = pytest.mark.s3

DATA = some_bytes(3_000, 21)
LARGE = some_bytes(4 * 1024 * 1024 + 5_000, 22)
"""With digests."""
LATE_SECONDS = 35 * 60
RECORD, DIGESTS, BYTES = range(1, 4)
"""The deletes of a large blob in their order."""


def answers(status: int, code: str) -> Fault:
    async def fault(exchange: Exchange) -> None:
        await exchange.answer(status, code)

    return fault


class RunningClock(SystemClock):
    """Runs, for the budgets of tries, and can be moved on."""

    def __init__(self) -> None:
        self.passed_seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.passed_seconds


class Story:
    """`first` is the process whose requests are held back, `following` the one after it."""

    def __init__(self, behind: S3Server, old: S3Proxy, new: S3Proxy) -> None:
        self.old, self.new = old, new
        self.bucket = bucket_at(behind)
        self.prefix = f"run-{secrets.token_hex(6)}/blobs"
        self.clock = RunningClock()
        self.first = self._store(old, self.clock, request_seconds=0.3, retry_seconds=0.3)
        self.following = self._store(new, RunningClock())
        self.passed_seconds = 0
        new.plan(Kind.GET, self._get_later, times=None)
        self._stores = [self.first, self.following]

    def _store(self, proxy: S3Proxy, clock: Clock, **settings: float) -> S3BlobStore:
        return S3BlobStore(proxy.server.config(self.bucket, **settings), prefix=self.prefix, clock=clock)

    async def _get_later(self, exchange: Exchange) -> None:
        """The server's clock has gone on by `passed_seconds`."""
        reply = await exchange.forward()
        now = parsedate_to_datetime(reply.headers.of("date")) + timedelta(seconds=self.passed_seconds)
        headers = Headers([*reply.headers.without("date"), ("Date", format_datetime(now, usegmt=True))])
        await exchange.send(reply._replace(headers=headers).encode())

    async def read(self, key: BlobKey) -> bytes:
        async with await self.following.get(key) as reader:
            return await reader.read()

    async def holders(self, key: BlobKey) -> frozenset[str]:
        found = await self.following._records.get(self.following.names.place(key, ""), key)
        return frozenset() if found is None else found.holders

    async def deliver(self) -> None:
        """All that was held back arrives."""
        while self.old.held:
            assert await self.old.deliver() < 500

    async def keys(self) -> set[str]:
        """Of all objects, and what kind of thing they are."""
        return {one.key.removeprefix(self.prefix) async for one in self.following.api.objects(self.prefix, "all")}

    async def close(self) -> None:
        for store in self._stores:
            await store.aclose()


@pytest.fixture(params=[default_server, moto_server], ids=["no conditions", "conditions"])
async def story(request: pytest.FixtureRequest) -> AsyncIterator[Story]:
    make: Callable[[], S3Server] = request.param
    async with S3Proxy(make()) as old, S3Proxy(make()) as new:
        made = Story(make(), old, new)
        yield made
        await made.close()


def plan(holder: str = "", **advertised: str) -> BlobWritePlan:
    attributes = BinaryAttributes.EMPTY.advertise({f"user.{name}": text for name, text in advertised.items()}, at_ns=1)
    return BlobWritePlan(holder=holder, attributes=attributes)


async def refused(call: object) -> None:
    with pytest.raises(Unavailable, match="may still arrive") as told:
        await call  # type: ignore[misc]
    assert told.value.retry is Retry.TEMPORARY
    assert told.value.code == "unavailable"
    assert "minutes" in told.value.hint


@pytest.mark.parametrize("first", [RECORD, DIGESTS, BYTES], ids=["record", "digests", "bytes"])
@pytest.mark.parametrize("dies", [False, True], ids=["gives up", "dies"])
async def test_late_delete_hits_nothing_that_was_put_again(story: Story, first: int, dies: bool) -> None:
    """One that dies leaves its note as it was before the delete."""
    key = (await story.first.put(LARGE)).key
    story.old.plan(Kind.DELETE, hold, first=first, times=None)
    if dies:
        story.old.plan(Kind.PUT, answers(403, "AccessDenied"), first=2)  # the one that would end the note
    with pytest.raises(Unavailable):
        await story.first.delete(key)
    await refused(story.following.put(LARGE))
    story.passed_seconds = LATE_SECONDS - 60
    await refused(story.following.put(LARGE))
    await story.deliver()
    story.passed_seconds = LATE_SECONDS + 1
    assert (await story.following.put(LARGE)).key == key
    assert await story.read(key) == LARGE


async def test_reply_that_is_lost_counts_also_if_the_next_try_is_answered(story: Story) -> None:
    key = (await story.first.put(DATA)).key
    story.old.plan(Kind.DELETE, hold)
    assert await story.first.delete(key)
    for store in (story.first, story.following):
        await refused(store.put(DATA))
    assert await story.following.stat(key) is None
    await story.deliver()
    story.passed_seconds = LATE_SECONDS + 1
    assert (await story.following.put(DATA)).created
    assert await story.read(key) == DATA
    assert await story.following.delete(key), "an old note is in nobody's way"
    assert await story.keys() == set()


async def test_delete_may_be_done_again_at_once_and_keeps_the_note(story: Story) -> None:
    """In the same process and in the next."""
    key = (await story.first.put(LARGE)).key
    story.old.plan(Kind.DELETE, hold, first=DIGESTS, times=None)
    with pytest.raises(Unavailable):
        await story.first.delete(key)
    assert not await story.following.delete(key), "its record is gone"
    [note] = await story.keys()
    assert note.startswith(".notes/")
    await refused(story.following.put(LARGE))
    await story.deliver()
    story.passed_seconds = LATE_SECONDS + 1
    assert (await story.following.put(LARGE)).created
    assert await story.read(key) == LARGE


async def test_late_removal_of_a_holder_takes_nothing_from_one_that_came_back(story: Story) -> None:
    key = (await story.first.put(DATA, plan("a"))).key
    await story.first.put(DATA, plan("b"))
    before = story.old.count(Kind.PUT)
    story.old.plan(Kind.PUT, hold, first=2, times=None)  # the note goes before it
    with pytest.raises(Unavailable):
        await story.first.delete(key, "b")
    assert story.old.count(Kind.PUT) > before + 1
    assert await story.holders(key) == {"a", "b"}
    await refused(story.following.put(DATA, plan("b")))
    await refused(story.following.delete(key, "b"))
    await story.deliver()
    story.passed_seconds = LATE_SECONDS + 1
    await story.following.put(DATA, plan("b"))
    assert await story.holders(key) == {"a", "b"}


async def test_late_record_of_a_first_put_that_another_one_followed(story: Story) -> None:
    """In the same process, whatever the server knows of conditions."""
    story.old.plan(Kind.PUT, hold, first=2)  # the bytes go before it
    key = (await story.first.put(DATA, plan("a"))).key
    assert not (await story.first.put(DATA, plan("a"))).created, "what changes nothing goes on"
    await refused(story.first.put(DATA, plan("b")))
    await refused(story.first.put(DATA, plan("a", name="x")))
    await refused(story.first.delete(key, "a"))
    assert await story.read(key) == DATA
    await story.deliver()
    story.clock.passed_seconds = LATE_SECONDS + 1
    await story.first.put(DATA, plan("b"))
    assert await story.holders(key) == {"a", "b"}
    assert await story.first.delete(key, "a")
    assert await story.first.delete(key, "b")
    assert await story.keys() == set()


async def test_late_record_of_a_process_that_died_replaces_none() -> None:
    """On a server that knows conditions. Its bytes and those of the next put are the same."""
    async with S3Proxy(moto_server()) as old, S3Proxy(moto_server()) as new:
        story = Story(moto_server(), old, new)
        old.plan(Kind.PUT, hold, first=2, times=None)
        old.plan(Kind.DELETE, answers(403, "AccessDenied"), times=None)
        with pytest.raises(Unavailable):
            await story.first.put(DATA, plan("a"))
        key = (await story.following.put(DATA, plan("b"))).key
        while old.held:
            request, _ = old.held[0]
            assert await old.deliver() == (412 if ".records/" in request.key else 200)
        assert await story.holders(key) == {"b"}
        assert await story.read(key) == DATA
        await story.close()


async def test_late_note_makes_wait_and_harms_nothing(story: Story) -> None:
    key = (await story.first.put(DATA)).key
    story.old.plan(Kind.PUT, hold, times=None)
    with pytest.raises(Unavailable):
        await story.first.delete(key)
    assert story.old.count(Kind.DELETE) == 0, "nothing is taken away without a note"
    assert not (await story.following.put(DATA)).created
    await story.deliver()
    assert await story.read(key) == DATA
    await refused(story.following.put(DATA))
    story.passed_seconds = LATE_SECONDS + 1
    assert not (await story.following.put(DATA)).created
    assert await story.following.delete(key)


async def test_late_end_of_a_note_is_noted(story: Story) -> None:
    """It could hit the note of another delete."""
    key = (await story.first.put(DATA)).key
    story.old.plan(Kind.DELETE, hold, first=3, times=None)
    assert await story.first.delete(key)
    assert story.old.count(Kind.DELETE) == 3, "one try"
    await refused(story.following.put(DATA))
    await story.deliver()
    assert (await story.following.put(DATA)).created, "it was the only one that could arrive"


async def test_full_bucket_can_be_emptied(story: Story) -> None:
    """It takes no note; the process remembers in its place."""
    key = (await story.first.put(DATA)).key
    other = (await story.first.put(LARGE)).key
    story.old.plan(Kind.PUT, answers(507, "InsufficientStorage"), times=2)
    assert await story.first.delete(other)
    story.old.plan(Kind.DELETE, hold)
    assert await story.first.delete(key)
    assert await story.keys() == set()
    await refused(story.first.put(DATA))
    assert (await story.first.put(LARGE)).created
    await story.deliver()
    story.clock.passed_seconds = LATE_SECONDS + 1
    assert (await story.first.put(DATA)).created
    assert await story.read(key) == DATA


async def test_put_that_was_cancelled_may_be_done_again_at_once(story: Story) -> None:
    """Its last request was answered: the cancelled call has waited for that."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def pause(exchange: Exchange) -> None:
        reply = await exchange.forward()
        arrived.set()
        await go.wait()
        await exchange.send(reply.encode())

    story.new.plan(Kind.PUT, pause, first=2)
    job = asyncio.ensure_future(story.following.put(DATA))
    await arrived.wait()
    job.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert await story.keys() == set()
    key = (await story.following.put(DATA)).key
    assert await story.read(key) == DATA
    assert await story.following.delete(key)
    with pytest.raises(NotFound):
        await story.following.get(key)


async def test_foreign_note_makes_wait(story: Story) -> None:
    """Of a later version, or half a note: it may mean anything."""
    key = (await story.first.put(DATA)).key
    for content in (b"", b"{}", b"x" * 100_000):
        await story.following.api.put(story.following.names.place(key, "").note, "raw", memoryview(content))
        story.passed_seconds = LATE_SECONDS + 1
        await refused(story.following.put(DATA))
        assert (await story.following.put(DATA)).key == key, "it was ended by the one before"
        story.passed_seconds = 0
