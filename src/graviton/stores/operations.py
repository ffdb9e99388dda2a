"""What is going on in a store: counted, measured, traced, and ended when the store is closed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from graviton.concurrency.lifetime import Lifetime
from graviton.errors import GravitonError, Retry, Unavailable
from graviton.ports.metrics import MetricKeys, MetricsRegistry
from graviton.ports.tracing import Tracer

__all__ = ["Operations"]


class Operations:
    """The operations of one store that are going on now."""

    def __init__(
        self, metrics: MetricsRegistry, tracer: Tracer | None = None, lifetime: Lifetime | None = None
    ) -> None:
        self._metrics, self._tracer, self._lifetime = metrics, tracer, lifetime
        self._lock = threading.Lock()
        self._running: set[_Operation] = set()
        self._idle: asyncio.Future[None] | None = None

    def call(self, name: str) -> _Operation:
        """`running`, of a call that begins now. Raises Unavailable if the store must not be used any more."""
        if self._lifetime is not None:
            self._lifetime.check()
        return self.running(name)

    def running(self, name: str, *, measured: bool = True) -> _Operation:
        """A context for one operation: it is measured under `name`, and cancelled when the store is closed meanwhile,
        which then raises Unavailable."""
        span = None if self._tracer is None else self._tracer.span(f"store.{name}")
        return _Operation(self, name, self._metrics if measured else None, span)

    def handed_out(self, size: int) -> None:
        """A reader gave away so many verified bytes."""
        self._metrics.counter(MetricKeys.BYTES_READ, size)

    def failed(self, name: str, error: BaseException) -> None:
        """What had been measured as done has failed after all: it counts once more, as that."""
        if isinstance(error, GravitonError):
            self._metrics.counter(MetricKeys.BLOB_OPERATIONS, operation=name, outcome=error.code)

    async def end(self) -> None:
        """Cancel everything that is going on and wait until it has cleaned up."""
        for operation in list(self._running):
            operation.interrupt()
        while True:
            with self._lock:
                if not self._running:
                    return
                if self._idle is None or self._idle.done():
                    self._idle = asyncio.get_running_loop().create_future()
                idle = self._idle
            await asyncio.shield(idle)  # others may wait for it too

    def add(self, operation: _Operation) -> None:
        """Called when an operation begins."""
        self._running.add(operation)

    def remove(self, operation: _Operation) -> None:
        """Called when it has ended, whatever came of it."""
        with self._lock:
            self._running.discard(operation)
            idle = None if self._running else self._idle
        if idle is not None:
            _in_loop(idle.get_loop(), partial(_settle, idle))


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> bool:
    """Have `loop`, perhaps that of another thread, make a call; False if it is closed."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return False
    return True


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Operation:
    """One operation in the task that entered it. Ends as `asyncio.timeout` does: a cancellation of ours becomes an
    error, one of somebody else goes on."""

    __slots__ = ("_all", "_cancelling", "_interrupted", "_metrics", "_name", "_span", "_started", "_task")

    def __init__(
        self,
        all_: Operations,
        name: str,
        metrics: MetricsRegistry | None,
        span: AbstractContextManager[object] | None,
    ) -> None:
        self._all, self._name, self._metrics, self._span = all_, name, metrics, span
        self._interrupted = False

    def interrupt(self) -> None:
        """Make it raise Unavailable as soon as it has cleaned up."""
        if not self._interrupted:
            self._interrupted = True
            if not _in_loop(self._task.get_loop(), self._task.cancel):
                self._all.remove(self)  # it will never go on

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "stores are used by tasks"
        self._task, self._cancelling = task, task.cancelling()
        self._all.add(self)
        if self._span is not None:
            self._span.__enter__()
        self._started = time.perf_counter()

    def __exit__(self, kind: object, value: BaseException | None, trace: object) -> None:
        self._all.remove(self)
        closed: Unavailable | None = None
        if (
            self._interrupted
            and self._task.uncancel() <= self._cancelling
            and isinstance(value, asyncio.CancelledError)
        ):
            closed = Unavailable("this store was closed meanwhile", operation=self._name, retry=Retry.PERMANENT)
        if self._metrics is not None:
            self._measure(self._metrics, closed or value)
        if self._span is not None:
            error = closed or value
            self._span.__exit__(type(error) if error is not None else None, error, None)
        if closed is not None:
            raise closed from value

    def _measure(self, metrics: MetricsRegistry, error: BaseException | None) -> None:
        if error is None:
            outcome = "ok"
        else:
            outcome = error.code if isinstance(error, GravitonError) else type(error).__name__.lower()
        metrics.counter(MetricKeys.BLOB_OPERATIONS, operation=self._name, outcome=outcome)
        seconds = time.perf_counter() - self._started
        metrics.histogram(MetricKeys.BLOB_OPERATION_SECONDS, seconds, operation=self._name)
