"""The laws of `Tracer`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from graviton.errors import NotFound
from graviton.ports.capabilities import Capabilities
from graviton.ports.tracing import Tracer
from graviton.testing.conformance.checks import raises
from graviton.testing.conformance.contract import Contract, needs, optional_hook

__all__ = ["Recorded", "TracerContract"]


class Recorded(NamedTuple):
    """A span that ended."""

    name: str
    parent: str
    """Name of the span it is a child of; empty for that of `recording`."""
    facts: dict[str, str | int]
    error: str = ""
    """Code of the error that was raised within."""


class TracerContract(Contract[Tracer]):
    """All laws of `graviton.ports.tracing`."""

    port = Tracer
    capabilities = Capabilities()

    def recording(self) -> AbstractContextManager[object]:
        """Within it a trace is being recorded."""
        return nullcontext()

    @optional_hook
    async def recorded(self) -> Sequence[Recorded]:
        """The spans that ended so far, in the order in which they did."""
        raise NotImplementedError

    async def test_what_is_raised_within_passes_through(self) -> None:
        tracer = await self.open()
        for around in (nullcontext(), self.recording()):
            with around:
                for error in (NotFound("planned"), asyncio.CancelledError(), KeyboardInterrupt(), ValueError("\ud800")):
                    try:
                        with tracer.span("step", key="k"):
                            raise error
                    except BaseException as caught:  # noqa: BLE001 - that it is the very same is the law
                        assert caught is error  # noqa: PT017

    async def test_odd_facts_raise_nothing(self) -> None:
        tracer = await self.open()
        with self.recording(), tracer.span("", key="\ud800\x00", size=10**30, empty="", name="n", self="s"):
            pass

    @needs("recorded")
    async def test_spans_are_children_of_those_around_them_also_in_tasks(self) -> None:
        tracer = await self.open()

        async def below() -> None:
            with tracer.span("below"):
                await asyncio.sleep(0)

        with self.recording():
            with tracer.span("above", size=5):
                await asyncio.gather(below(), asyncio.create_task(below()))
            with tracer.span("after"):
                pass
        assert await self.recorded() == [
            Recorded("below", "above", {}),
            Recorded("below", "above", {}),
            Recorded("above", "", {"size": 5}),
            Recorded("after", "", {}),
        ]

    @needs("recorded")
    async def test_nothing_is_recorded_outside(self) -> None:
        tracer = await self.open()
        with tracer.span("before"):
            pass
        with self.recording():
            pass
        with tracer.span("after"):
            pass
        assert await self.recorded() == []

    @needs("recorded")
    async def test_errors_are_noted_but_for_cancellations(self) -> None:
        tracer = await self.open()
        with self.recording():
            with raises(NotFound), tracer.span("missing"):
                raise NotFound("planned")
            with raises(OSError), tracer.span("broken"):
                raise OSError("planned")
            with raises(asyncio.CancelledError), tracer.span("cancelled"):
                raise asyncio.CancelledError
        assert await self.recorded() == [
            Recorded("missing", "", {}, "not_found"),
            Recorded("broken", "", {}, "OSError"),
            Recorded("cancelled", "", {}),
        ]
