"""What the smaller reference implementations promise beyond their ports."""

import math

import pytest

from graviton.backends.memory.blocks import InMemoryBlockStore
from graviton.backends.memory.events import InMemoryEventSink
from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.backends.memory.objects import InMemoryImmutableObjectStore, InMemoryMutableObjectStore
from graviton.backends.memory.reclaimer import InMemoryBlockReclaimer
from graviton.core.locators import Locator
from graviton.errors import InvalidInput, Unavailable
from graviton.ports.blocks import BlockStatus
from graviton.ports.events import Event, EventKind, NoEvents
from graviton.ports.metrics import MetricKeys
from graviton.testing.conformance.block_values import block
from graviton.testing.fake_clock import FakeClock


def test_event_ring_keeps_the_latest() -> None:
    sink = InMemoryEventSink(capacity=3)
    for number in range(5):
        sink.emit(Event(EventKind.BLOCK_STORED, number, str(number)))
    assert [event.at_ns for event in sink.events] == [2, 3, 4]
    assert sink.dropped == 2
    with pytest.raises(InvalidInput):
        InMemoryEventSink(capacity=0)


def test_no_events_keeps_nothing_and_drops_nothing() -> None:
    sink = NoEvents()
    sink.emit(Event(EventKind.BLOCK_STORED, 1, ""))
    assert sink.dropped == 0


def test_histogram_has_the_buckets_of_its_spec() -> None:
    metrics = InMemoryMetrics()
    metrics.histogram(MetricKeys.BLOB_OPERATION_SECONDS, 0.0007, operation="put")
    metrics.histogram(MetricKeys.BLOB_OPERATION_SECONDS, 61.0, operation="put")
    (value,) = metrics.snapshot().histograms.values()
    assert dict(value.buckets)[0.0005] == 0
    assert dict(value.buckets)[0.001] == 1
    assert dict(value.buckets)[60.0] == 1
    assert dict(value.buckets)[math.inf] == 2


async def test_object_times_come_from_the_clock() -> None:
    clock = FakeClock(7)
    store = InMemoryMutableObjectStore(clock=clock)
    locator = Locator("memory", "default", "c")
    await store.put(locator, b"1")
    clock.advance(1)
    stat = await store.copy(locator, Locator("memory", "default", "d"))
    assert stat.modified_ns == 1_000_000_007
    found = await store.head(locator)
    assert found is not None
    assert found.modified_ns == 7


async def test_immutable_store_keeps_a_copy_of_what_it_was_given() -> None:
    given = {"c": b"one"}
    store = InMemoryImmutableObjectStore(given, scheme="fixed", bucket="b")
    given["d"] = b"two"
    assert [stat.locator.text async for stat in store.list()] == ["fixed://b/c"]


async def test_reclaimer_works_on_the_store_itself_and_closes_with_it() -> None:
    store = InMemoryBlockStore()
    reclaimer = InMemoryBlockReclaimer(store)
    result = await store.put_blocks([block(b"one")])
    assert [stored.status for stored in result.stored] == [BlockStatus.FRESH]
    entry = await reclaimer.move_to_trash(block(b"one").key, 5)
    assert list(store.trash) == [entry]
    assert store.blocks == {}
    await store.aclose()
    with pytest.raises(Unavailable):
        await reclaimer.move_to_trash(block(b"one").key, 6)
