"""Which trace a request belongs to, and, with OpenTelemetry, spans of what was done for it.

Without it a request still has a trace id, its caller's or a new one: error answers and log lines show it. Nothing of
OpenTelemetry is imported then, and stores have no tracer. With it each request is a span below the one its
`traceparent` names; below that come the store's operations and reads and writes of blocks (`OtelTracer`). Spans are
sent in batches by a thread of the SDK, which drops them when nobody takes them.
"""

from __future__ import annotations

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final

from graviton._version import __version__
from graviton.assembly.trace_settings import wants_traces
from graviton.concurrency.threads import joined, started
from graviton.errors import GravitonError
from graviton.ports.tracing import Tracer
from graviton.server.trace_context import TraceContext, new_trace_id, parse_traceparent

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

__all__ = ["NoTracing", "OtelTracing", "RequestTrace", "Tracing", "tracing_from"]

_CLOSING_SECONDS: Final = 5.0
"""For sending what is left; a collector that does not answer costs these spans, not the server's end."""


class RequestTrace:
    """The trace of one request."""

    def __init__(self, trace_id: str, span_id: str = "") -> None:
        self.trace_id = trace_id
        """32 hex digits."""
        self.span_id = span_id
        """16 hex digits; empty if no spans are recorded."""

    def ended(self, route: str, status: int, failure: BaseException | None = None) -> None:
        """What came of the request: the route's template, the answer's status (0 if there was none), and an error."""


class Tracing(ABC):
    """Traces of this process."""

    tracer: Tracer | None
    """For stores; None if there is nothing to record."""

    @abstractmethod
    def request(self, method: str, traceparent: str | None) -> AbstractContextManager[RequestTrace]:
        """Around one request, in its task. `traceparent` is the header, None if there is none or more than one."""

    async def aclose(self) -> None:
        """Send what is left, for some seconds at most."""


class NoTracing(Tracing):
    """Only ids."""

    tracer = None

    @contextmanager
    def request(self, method: str, traceparent: str | None) -> Iterator[RequestTrace]:
        parent = parse_traceparent(traceparent)
        yield RequestTrace(new_trace_id() if parent is None else parent.trace_id)


def tracing_from(environment: Mapping[str, str]) -> Tracing:
    """What these variables ask for (docs/operations/logs.md). Warns if that needs a package that is not installed.
    Raises ConfigError."""
    if not wants_traces(environment):
        return NoTracing()
    try:
        return OtelTracing()
    except ImportError as error:
        warnings.warn(
            f"traces are asked for, and OpenTelemetry is not installed ({error}): pip install 'graviton[telemetry]'",
            UserWarning,
            stacklevel=2,
        )
        return NoTracing()


class OtelTracing(Tracing):
    """Spans by OpenTelemetry's SDK, sent as its variables say. The SDK's global provider is left alone."""

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        """Raises ImportError if a package is missing."""
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
        named = Resource({SERVICE_NAME: "graviton", SERVICE_VERSION: __version__})
        resource = Resource.create().merge(named).merge(OTELResourceDetector().detect())  # the environment wins
        self._provider: TracerProvider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._spans = self._provider.get_tracer("graviton", __version__)
        self.tracer: OtelTracer = OtelTracer(self._provider)

    @contextmanager
    def request(self, method: str, traceparent: str | None) -> Iterator[RequestTrace]:
        from opentelemetry import trace

        parent = parse_traceparent(traceparent)
        span = self._spans.start_span(method, _below(parent), trace.SpanKind.SERVER, {"http.request.method": method})
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield _OtelRequest(span, method)

    async def aclose(self) -> None:
        await joined([started(self._provider.shutdown, "graviton-traces")], _CLOSING_SECONDS)


def _below(parent: TraceContext | None) -> Context:
    from opentelemetry import context, trace

    if parent is None:
        return context.Context()  # whatever goes on around, this is a trace of its own
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if parent.is_sampled else trace.TraceFlags.DEFAULT)
    place = trace.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(place), context.Context())


class _OtelRequest(RequestTrace):
    def __init__(self, span: Span, method: str) -> None:
        place = span.get_span_context()
        super().__init__(f"{place.trace_id:032x}", f"{place.span_id:016x}")
        self._span, self._method = span, method

    def ended(self, route: str, status: int, failure: BaseException | None = None) -> None:
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attribute("http.route", route)
        if status:
            self._span.set_attribute("http.response.status_code", status)
        if failure is not None:
            self._span.set_attribute("error.type", _error_type(failure))
        if status >= 500 or not status:
            _mark_failed(self._span)


class OtelTracer(Tracer):
    """See `Tracer` for the laws."""

    def __init__(self, provider: TracerProvider) -> None:
        self._spans = provider.get_tracer("graviton", __version__)

    def span(self, name: str, /, **facts: str | int) -> AbstractContextManager[object]:
        return _Step(self, name, facts)

    def start(self, name: str, facts: Mapping[str, str | int]) -> Span | None:
        """A span below the current one; None if that is not recorded."""
        from opentelemetry import trace

        if not trace.get_current_span().is_recording():
            return None
        attributes = {f"graviton.{fact}": _attribute(value) for fact, value in facts.items()}
        return self._spans.start_span(name, attributes=attributes)


class _Step:
    """One span, from when it is entered."""

    __slots__ = ("_context", "_facts", "_name", "_span", "_tracer")

    def __init__(self, tracer: OtelTracer, name: str, facts: Mapping[str, str | int]) -> None:
        self._tracer, self._name, self._facts = tracer, name, facts

    def __enter__(self) -> None:
        from opentelemetry import context, trace

        self._span = self._tracer.start(self._name, self._facts)
        if self._span is not None:
            self._context = context.attach(trace.set_span_in_context(self._span))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._span is None:
            return
        from opentelemetry import context

        context.detach(self._context)
        if value is not None and not isinstance(value, asyncio.CancelledError):
            self._span.set_attribute("error.type", _error_type(value))
            _mark_failed(self._span)
        self._span.end()


def _mark_failed(span: Span) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR))


def _error_type(error: BaseException) -> str:
    return error.code if isinstance(error, GravitonError) else type(error).__name__


_MAX_INT: Final = 2**63 - 1
"""Of an attribute."""


def _attribute(value: str | int) -> str | int:
    """What the wire format takes: whole characters, and numbers of 64 bits."""
    if isinstance(value, int):
        return value if -_MAX_INT <= value <= _MAX_INT else str(value)
    return value.encode("utf-8", "replace").decode()
