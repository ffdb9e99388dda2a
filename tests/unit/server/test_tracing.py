"""Traces that a collector gets, and what there is without one."""

from __future__ import annotations

import asyncio
import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.assembly.trace_settings import wants_traces
from graviton.errors import ConfigError, NotFound, Unavailable
from graviton.server import tracing
from graviton.server.tracing import NoTracing, OtelTracing, tracing_from

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """An OTLP/HTTP receiver."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
                outer.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for group in request.resource_spans:
            self.resources.append({one.key: one.value.string_value for one in group.resource.attributes})
            for scope in group.scope_spans:
                self.spans.extend(scope.spans)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def named(self, name: str) -> Span:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def facts(span: Span) -> dict[str, object]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


async def test_a_collector_gets_requests_operations_and_blocks(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "depot")
    traces = tracing_from(os.environ)
    async with Store(Settings(fs_root=tmp_path), tracer=traces.tracer) as store:
        with traces.request("POST", f"00-{TRACE}-{SPAN}-01") as request:
            assert request.trace_id == TRACE
            result = await store.put(bytes(1_500_000))
            request.ended("/api/blobs", 201)
        post = request.span_id
        with traces.request("GET", None) as request:
            assert request.trace_id != TRACE
            async with await store.get(result.key) as reader:
                assert len(await reader.read()) == 1_500_000
            [stat async for stat in store.list()]
            request.ended("/api/blobs/{id}", 200)
        with traces.request("GET", "malformed") as request:
            await store.delete(result.key)
            with pytest.raises(NotFound):
                await store.get(result.key)
            request.ended("/api/blobs/{id}", 404, NotFound("no"))
        with traces.request("PUT", None) as request:
            request.ended("/api/uploads/{id}", 503, Unavailable("no"))
    await traces.aclose()

    assert {one["service.name"] for one in collector.resources} == {"depot"}
    server = collector.named("POST /api/blobs")
    assert (server.trace_id.hex(), server.parent_span_id.hex(), server.span_id.hex()) == (TRACE, SPAN, post)
    assert server.kind == Span.SPAN_KIND_SERVER
    assert facts(server) == {
        "http.request.method": "POST",
        "http.route": "/api/blobs",
        "http.response.status_code": 201,
    }
    put = collector.named("store.put")
    assert put.parent_span_id == server.span_id
    written = [span for span in collector.spans if span.name == "blocks.put"]
    assert written
    assert {span.trace_id.hex() for span in written} == {TRACE}
    assert sum(facts(span)["graviton.bytes"] for span in written) > 0  # type: ignore[misc]

    got = [span for span in collector.spans if span.name == "store.get"]
    assert [facts(span).get("error.type") for span in got] == [None, "not_found"]
    read = [span for span in collector.spans if span.name == "blocks.get"]
    assert {span.trace_id for span in read} == {got[0].trace_id}
    assert facts(read[0])["graviton.block"]
    assert collector.named("store.list").trace_id == got[0].trace_id
    assert collector.named("store.delete").trace_id == got[1].trace_id

    missing = next(span for span in collector.spans if facts(span).get("http.response.status_code") == 404)
    assert (missing.status.code, facts(missing)["error.type"]) == (0, "not_found"), "the client's mistake, not ours"
    failed = collector.named("PUT /api/uploads/{id}")
    assert (failed.status.code, facts(failed)["error.type"]) == (2, "unavailable")


async def test_what_the_caller_does_not_sample_is_not_recorded_and_keeps_its_trace(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
    traces = tracing_from(os.environ)
    assert traces.tracer is not None
    with traces.request("GET", f"00-{TRACE}-{SPAN}-00") as request:
        assert request.trace_id == TRACE
        with traces.tracer.span("store.get"):
            pass
        request.ended("/", 200)
    await traces.aclose()
    assert collector.spans == []


async def test_a_request_within_something_traced_begins_a_trace_of_its_own() -> None:
    traces = OtelTracing(InMemorySpanExporter())
    with traces.request("GET", None) as outer, traces.request("GET", None) as inner:
        assert outer.trace_id != inner.trace_id
    await traces.aclose()


async def test_a_collector_that_hangs_does_not_keep_the_server_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(tracing, "_CLOSING_SECONDS", 0.2)
        traces = tracing_from(os.environ)
        with traces.request("GET", None) as request:
            request.ended("/", 200)
        began = time.monotonic()
        await asyncio.wait_for(traces.aclose(), 60)
        assert time.monotonic() - began < 9, "not the ten seconds of the exporter"


async def test_without_a_collector_there_are_ids_and_nothing_else() -> None:
    traces = tracing_from({})
    assert isinstance(traces, NoTracing)
    assert traces.tracer is None
    with traces.request("GET", f"00-{TRACE}-{SPAN}-01") as request:
        assert (request.trace_id, request.span_id) == (TRACE, "")
        request.ended("/", 200, NotFound("no"))
    with traces.request("GET", "malformed") as request:
        assert len(request.trace_id) == 32
        assert request.trace_id != TRACE
    await traces.aclose()


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
    ],
)
def test_which_variables_ask_for_traces(variables: dict[str, str], wanted: bool) -> None:
    assert wants_traces(variables) is wanted


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "jaeger"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"},
    ],
)
def test_another_way_of_sending_is_refused_by_name(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="OTEL_"):
        tracing_from(variables)


def test_without_the_package_there_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.warns(UserWarning, match=r"graviton\[telemetry\]"):
        assert isinstance(tracing_from({"OTEL_TRACES_EXPORTER": "otlp"}), NoTracing)


def test_nothing_of_it_is_imported_unless_it_is_asked_for() -> None:
    code = (
        "import sys; from graviton.server.tracing import tracing_from\n"
        "with tracing_from({}).request('GET', None): pass\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
