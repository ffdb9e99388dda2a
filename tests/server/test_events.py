"""Events over a real connection, with metadata in PostgreSQL; in SQLite: test_embedded_events.py."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.cli_process import wait_for
from tests.integration.command_runs import graviton
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import server as postgres
from tests.server.following import Follower
from tests.server.serving import Served

pytestmark = pytest.mark.postgres


@pytest.fixture
async def environment() -> AsyncIterator[dict[str, str]]:
    """Variables that name metadata of this test alone."""
    schema = f"serve_{secrets.token_hex(8)}"
    await make_schema(postgres(), schema)
    yield {"GRAVITON_METADATA": "postgres", "PG_JDBC_URL": postgres().url(schema)}
    await drop_schema(postgres(), schema)


async def test_a_follower_that_comes_again_misses_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    root = tmp_path / "store"
    (tmp_path / "file").write_bytes(b"by the command line")
    with Served(root, **environment) as server:
        follower = Follower(server)
        assert follower.answer.getheader("content-type") == "text/event-stream"
        start = next(follower.blocks())["id"]
        first = server.put(b"by the server")
        [(position, kind, subject)] = follower.events(1)
        assert (kind, subject) == ("blob.committed", first)
        follower.close()

        put = graviton(root, "put", tmp_path / "file", "--json", **environment)
        second = put.objects[0]["id"]
        assert server.request("DELETE", f"/api/blobs/{first}").status == 204

        again = Follower(server, last=position)
        assert [one[1:] for one in again.events(2)] == [("blob.committed", second), ("blob.deleted", first)]
        again.close()
        everything = Follower(server, last=start)
        assert [one[2] for one in everything.events(3)] == [first, second, first]
        everything.close()
        filtered = Follower(server, f"?after=first&kind=blob.deleted&prefix={first[:12]}")
        assert [one[1:] for one in filtered.events(1)] == [("blob.deleted", first)]
        assert server.stop() == 0
        assert filtered.answer.read() == b"", "the stream ended in order"
        filtered.close()


async def test_positions_that_are_none_and_events_that_are_gone(environment: dict[str, str], tmp_path: Path) -> None:
    with Served(tmp_path / "store", **environment) as server:
        for last in ("nonsense", "x" * 1000):
            answer = server.request("GET", "/api/events", headers={"Last-Event-ID": last})
            assert (answer.status, answer.json["error"]) == (400, "invalid_input")
        assert server.request("GET", "/api/events?kind=nothing").status == 400
        follower = Follower(server)
        start = next(follower.blocks())["id"]
        server.put(b"one")
        follower.events(1)
        follower.close()
        wait_for(lambda: b"graviton_http_event_followers 0.0" in server.request("GET", "/metrics").body)
        trimmed = graviton(tmp_path / "store", "db", "trim", "--older-than", "0s", "--json", **environment)
        assert trimmed.objects[-1]["events"] == 1, trimmed
        answer = server.request("GET", "/api/events", headers={"Last-Event-ID": start})
        assert (answer.status, answer.json["error"]) == (410, "gone")
        assert answer.json["hint"]


async def test_ready_says_that_the_database_is_away(environment: dict[str, str], tmp_path: Path) -> None:
    """Without its tables it answers no question; that the process lives is another one."""
    with Served(tmp_path / "store", **environment) as server:
        assert server.request("GET", "/api/health/ready").status == 200
        await drop_schema(postgres(), environment["PG_JDBC_URL"].rpartition("=")[2])
        wait_for(lambda: server.request("GET", "/api/health/ready").status == 503)
        answer = server.request("GET", "/api/health/ready").json
        assert answer == {"status": "unable", "parts": {"metadata": "unable", "blocks": "ok", "disk": "ok"}}
        assert server.request("GET", "/api/health").status == 200
        failed = server.request("GET", f"/api/blobs/blake3:{'0' * 64}:1")
        assert failed.status >= 500
        assert "serve_" not in failed.body.decode()
