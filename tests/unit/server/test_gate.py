from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.assembly.server_settings import ServerSettings
from graviton.core.secret import Secret
from graviton.errors import GravitonError, InvalidInput, PermissionDenied, TooManyRequests, Unauthenticated
from graviton.server.http.gate import Gate, host_of, is_own_host, presents, same_origin
from graviton.testing.fake_clock import FakeClock

TOKEN = Secret("0123456789abcdef")


def scope(path: str = "/api/blobs", query: bytes = b"", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"path": path, "raw_path": path.encode(), "query_string": query, "headers": named}


def refusal(gate: Gate, request: dict[str, Any]) -> type[GravitonError] | None:
    try:
        gate.check(request)
    except GravitonError as error:
        return type(error)
    return None


def test_the_token_opens_everything_and_nothing_else_does() -> None:
    gate = Gate(ServerSettings(host="0.0.0.0", token=TOKEN), FakeClock())
    assert refusal(gate, scope(authorization="Bearer 0123456789abcdef")) is None
    assert refusal(gate, scope(authorization="bearer  0123456789abcdef ")) is None
    for wrong in ("Bearer 0123456789abcdeg", "Bearer", "Basic 0123456789abcdef", "0123456789abcdef", "é", ""):
        assert refusal(gate, scope(authorization=wrong)) is Unauthenticated
    assert refusal(gate, scope()) is Unauthenticated
    for path in ("/api/stats", "/api/docs", "/metrics", "/api/health/"):
        assert refusal(gate, scope(path)) is Unauthenticated
    for path in ("/api/health", "/api/health/ready"):
        assert refusal(gate, scope(path)) is None


def test_two_tokens_are_none() -> None:
    gate = Gate(ServerSettings(token=TOKEN), FakeClock())
    request = scope()
    request["headers"] = [(b"authorization", b"Bearer 0123456789abcdef"), (b"authorization", b"Bearer x")]
    assert refusal(gate, request) is Unauthenticated


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:8081", "127.9.9.9", "[::1]", "[::1]:8081", "localhost:9"]
)
def test_this_machine_has_these_names(host: str) -> None:
    gate = Gate(ServerSettings(), FakeClock())
    assert refusal(gate, scope(host=host)) is None
    assert refusal(gate, scope(host=host, origin=f"http://{host}")) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8081",
        "localhost.evil.example",
        "192.168.0.1",
        "",
        "127.0.0.1@evil",
        "[::1",
        "a:b:c",
    ],
)
def test_a_name_that_somebody_elses_server_gives_is_refused(host: str) -> None:
    """A page of evil.example whose name suddenly leads to 127.0.0.1 says that name."""
    assert issubclass(refusal(Gate(ServerSettings(), FakeClock()), scope(host=host)) or object, PermissionDenied)
    assert not is_own_host(host)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "", "http://localhost:1", "file://"])
def test_a_page_of_another_site_may_do_nothing(origin: str) -> None:
    gate = Gate(ServerSettings(), FakeClock())
    assert issubclass(refusal(gate, scope(host="localhost:8081", origin=origin)) or object, PermissionDenied)
    elsewhere = Gate(ServerSettings(host="0.0.0.0", insecure=True), FakeClock())
    assert issubclass(refusal(elsewhere, scope(host="files.example", origin=origin)) or object, PermissionDenied)
    assert refusal(elsewhere, scope(host="files.example", origin="https://files.example")) is None


def test_who_has_the_token_is_let_in_from_any_page() -> None:
    gate = Gate(ServerSettings(token=TOKEN), FakeClock())
    request = scope(host="evil.example", origin="http://evil.example", authorization="Bearer 0123456789abcdef")
    assert refusal(gate, request) is None


@pytest.mark.parametrize(
    "path",
    [
        "/" + "a" * 5000,
        "//api/health",
        "/api//health",
        "/api/blobs/../health",
        "/api/blobs/%2e%2E/health",
        "/./api",
        "/api/blobs/..",
        "/api/blobs/a%2Fstat",
        "/api/blobs/a%5cb",
        "/api/blobs/a\\b",
        "/api/blobs/%00",
    ],
)
def test_addresses_that_others_read_otherwise_are_refused(path: str) -> None:
    gate = Gate(ServerSettings(token=TOKEN), FakeClock())
    assert refusal(gate, scope(path, authorization="Bearer 0123456789abcdef")) is InvalidInput
    assert refusal(gate, scope(path)) is InvalidInput


def test_a_long_query_is_refused() -> None:
    assert refusal(Gate(ServerSettings(), FakeClock()), scope(query=b"a" * 5000, host="localhost")) is InvalidInput


def test_a_rate_is_kept_and_says_when_to_come_back() -> None:
    clock = FakeClock()
    gate = Gate(ServerSettings(request_rate=10), clock)
    clock.advance(1)
    outcomes = [refusal(gate, scope(host="localhost")) for _ in range(12)]
    assert outcomes == [None] * 10 + [TooManyRequests] * 2
    assert refusal(gate, scope("/api/health", host="localhost")) is None
    clock.advance(0.1)
    assert refusal(gate, scope(host="localhost")) is None


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_whatever_comes_is_answered(text: str, other: str) -> None:
    host_of(text)
    is_own_host(text)
    assert not same_origin(text, other) or text.lower().endswith("://" + other.lower())
    assert presents(text, TOKEN) == (text.lower().startswith("bearer ") and text[6:].strip(" ") == TOKEN.reveal())
