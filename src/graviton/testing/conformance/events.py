"""The laws of `EventSink`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor  # noqa: TID251 - no event loop is near, and all is waited for
from typing import ClassVar

from graviton.ports.capabilities import Capabilities
from graviton.ports.events import Event, EventKind, EventSink
from graviton.testing.conformance.contract import Contract, needs

__all__ = ["EventSinkContract"]


def _event(number: int, kind: EventKind = EventKind.BLOCK_STORED, source: str = "") -> Event:
    return Event(kind, number, f"{source}{number}", {"number": number})


class EventSinkContract(Contract[EventSink]):
    """All laws of `graviton.ports.events`."""

    port = EventSink
    capabilities = Capabilities()

    overflow: ClassVar[int] = 0
    """More events than the sink of `make_store` can hold undelivered; 0: it never drops any."""

    async def delivered(self, sink: EventSink) -> Sequence[Event]:
        """What has come out of `sink` so far, once it has had the time it needs."""
        raise NotImplementedError(f"{type(self).__qualname__} gives no delivered")

    async def test_fresh_sink_has_delivered_and_dropped_nothing(self) -> None:
        sink = await self.open()
        assert list(await self.delivered(sink)) == []
        assert sink.dropped == 0

    async def test_events_are_delivered_whole_and_in_order(self) -> None:
        sink = await self.open()
        events = [_event(number, kind) for number, kind in enumerate(EventKind)]
        events.append(Event(EventKind.GC_FINISHED, 2**62, "ä" * 1_000, {}))
        for event in events:
            sink.emit(event)
        assert list(await self.delivered(sink)) == events
        assert sink.dropped == 0

    async def test_equal_events_are_all_delivered(self) -> None:
        sink = await self.open()
        for _ in range(3):
            sink.emit(_event(1))
        assert list(await self.delivered(sink)) == [_event(1)] * 3

    @needs("overflow")
    async def test_what_cannot_be_delivered_is_counted(self) -> None:
        sink = await self.open()
        events = [_event(number) for number in range(self.overflow)]
        for event in events:
            sink.emit(event)
        delivered = list(await self.delivered(sink))
        assert 0 < len(delivered) < len(events)
        assert sink.dropped == len(events) - len(delivered)
        numbers = [event.at_ns for event in delivered]
        assert numbers == sorted(set(numbers)), "those that come are in order, each once"

    async def test_emit_may_be_called_from_any_thread(self) -> None:
        sink = await self.open()

        def work(thread: int) -> None:
            for number in range(20):
                sink.emit(_event(number, source=f"{thread}/"))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        delivered = list(await self.delivered(sink))
        assert len(delivered) + sink.dropped == 80
        for thread in range(4):
            numbers = [event.at_ns for event in delivered if event.subject.startswith(f"{thread}/")]
            assert numbers == sorted(numbers), "in the order in which its thread emitted them"
