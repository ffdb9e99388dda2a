"""One line per event, with known fields, that nobody can forge; nothing about the log stops whoever logs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graviton.assembly.log_settings import LogSettings, log_settings_from
from graviton.assembly.settings import KNOWN
from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.core.secret import Secret
from graviton.errors import ConfigError
from graviton.server.log_lines import FIELDS
from graviton.server.logs import Logs, about, access_log, told
from graviton.testing.fake_clock import FakeClock
from tests.unit.server.logged import logging_to, lost

LOG = logging.getLogger("graviton.test")
WHEN = "2026-01-31T12:34:56.123456Z"
REQUEST = {
    "trace_id": "a" * 32,
    "client": "127.0.0.1",
    "method": "GET",
    "route": "/api/blobs/{id}",
    "path": "/api/blobs/blake3:00?attempt=1",
    "status": 200,
    "seconds": 0.0123456789,
    "received": 0,
    "sent": 4096,
}


def test_json_line_has_the_documented_fields(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log") as lines:
        LOG.warning("%s happened", "something")
        access_log(REQUEST)
    assert lines.objects == [
        {"time": WHEN, "level": "warning", "logger": "graviton.test", "message": "something happened"},
        {
            "time": WHEN,
            "level": "info",
            "logger": "graviton.access",
            "message": "GET /api/blobs/{id} 200",
            "trace_id": "a" * 32,
            "client": "127.0.0.1",
            "method": "GET",
            "route": "/api/blobs/{id}",
            "path": "/api/blobs/blake3:00",
            "status": 200,
            "seconds": 0.012346,
            "bytes_in": 0,
            "bytes_out": 4096,
        },
    ]


def test_text_lines_are_for_people(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log", "text") as lines:
        access_log({**REQUEST, "message": "two words"})
        try:
            raise ValueError("planned\nand more")
        except ValueError:
            LOG.exception("it\nfailed")
    first, second, *below = lines.text.splitlines()
    assert first.startswith(f"{WHEN} INFO graviton.access: GET /api/blobs/{{id}} 200 trace_id=aaa")
    assert first.endswith('seconds=0.012346 bytes_in=0 bytes_out=4096 reason="two words"')
    assert second == f"{WHEN} ERROR graviton.test: it\\nfailed"
    assert below[0] == "  | Traceback (most recent call last):"
    assert below[-2:] == ["  | ValueError: planned", "  | and more"]


def test_errors_are_told_with_code_reason_and_traceback(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log") as lines:
        told_error = {"error": "unavailable", "message": "no database", "subject": "db", "hint": "start it"}
        access_log({**REQUEST, "status": 503, **told_error})
        try:
            raise ValueError("planned")
        except ValueError as error:
            access_log({**REQUEST, "status": 500, "error": "internal"}, error)
    first, second = lines.objects
    assert (first["level"], first["error"], first["reason"]) == ("warning", "unavailable", "no database")
    assert (first["subject"], first["hint"]) == ("db", "start it")
    assert (second["level"], second["error"]) == ("error", "internal")
    assert second["exception"].startswith("Traceback")
    assert second["exception"].endswith("ValueError: planned")


def test_lines_have_the_fields_of_their_request_also_in_its_tasks(tmp_path: Path) -> None:
    async def request(number: int) -> None:
        with about(request_id=f"r{number}", method="GET"):
            LOG.info("begin")
            await asyncio.sleep(0)
            with about(span_id="5"):
                await asyncio.create_task(asyncio.to_thread(LOG.info, "below"))  # noqa: TID251
            LOG.info("end", extra=told(method="PUT"))

    async def two() -> None:
        await asyncio.gather(request(1), request(2))

    with logging_to(tmp_path / "log") as lines:
        asyncio.run(two())
        LOG.info("outside")
    for number in (1, 2):
        mine = [line for line in lines.objects if line.get("request_id") == f"r{number}"]
        assert [(line["message"], line["method"], line.get("span_id")) for line in mine] == [
            ("begin", "GET", None),
            ("below", "GET", "5"),
            ("end", "PUT", None),
        ]
    assert lines.objects[-1] == {"time": WHEN, "level": "info", "logger": "graviton.test", "message": "outside"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(text=st.text(max_size=60) | st.sampled_from(["a\r\n{}", "\u2028x", "\x1b[2J", "\ud800", "\x00", "\x85", "%s"]))
def test_nothing_in_a_text_begins_another_line(tmp_path: Path, text: str) -> None:
    for format in ("json", "text"):
        path = tmp_path / format
        path.unlink(missing_ok=True)
        with logging_to(path, format) as lines:
            LOG.info(text)
            LOG.info("%s", text, extra=told(path=text, reason=text, client=text, route=text))
        assert len(lines.text.splitlines()) == 2
        assert all(char.isprintable() for char in lines.text.replace("\n", ""))
        if format == "json":
            assert lines.objects[0]["message"] == text
            assert lines.objects[1].get("path", "") == text.partition("?")[0]


def test_secrets_are_not_told(tmp_path: Path) -> None:
    secret = Secret("open-sesame-1234")
    with logging_to(tmp_path / "log", secrets=[secret]) as lines:
        LOG.info("it is %s", secret.reveal())
        LOG.info("headers %s", [(b"authorization", b"Bearer something-else-5678")])
        LOG.info("settings %s", {"token": secret})
        LOG.info("here", extra=told(path=f"/x?token={secret.reveal()}", reason=secret.reveal(), subject=secret))
        LOG.info("unknown fields are left out", extra={"password": "hunter2222", **told(password="hunter2222")})
        try:
            raise ValueError(f"refused {secret.reveal()}")
        except ValueError:
            LOG.exception("failed")
    assert secret.reveal() not in lines.text
    assert "something-else-5678" not in lines.text
    assert "hunter2222" not in lines.text
    assert lines.objects[3]["path"] == "/x"
    assert lines.objects[-1]["exception"].endswith("ValueError: refused ***")


def test_texts_are_cut(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log") as lines:
        LOG.info("x" * 1_000_000, extra=told(path="y" * 1_000_000))
        try:
            raise ValueError("z" * 1_000_000)
        except ValueError:
            LOG.exception("failed")
    assert len(lines.text) < 60_000
    assert lines.objects[0]["message"] == "x" * 4096 + "..."


def test_odd_records_are_lines_too(tmp_path: Path) -> None:
    class Rude:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    metrics = InMemoryMetrics()
    with logging_to(tmp_path / "log", metrics=metrics) as lines:
        LOG.info("%d", "no number")
        LOG.info("%s", Rude())
        LOG.info(Rude())
        LOG.info("odd", extra=told(seconds=float("nan"), status=True, bytes_in=None, error=b"x"))
    assert [line["message"] for line in lines.objects] == [
        "%d (its arguments do not fit: TypeError)",
        "%s (its arguments do not fit: RuntimeError)",
        "odd",
    ]
    assert lines.objects[2]["seconds"] == "nan"
    assert lost(metrics) == {"failed": 1}


def test_levels(tmp_path: Path) -> None:
    health = {**REQUEST, "route": "/api/health/ready"}
    with logging_to(tmp_path / "info") as lines:
        LOG.debug("no")
        logging.getLogger("botocore").info("headers and all")
        logging.getLogger("botocore").warning("careful")
        access_log(health)
        access_log({**health, "status": 503})
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", UserWarning, stacklevel=1)
    assert [line["logger"] for line in lines.objects] == ["botocore", "graviton.access", "py.warnings"]
    with logging_to(tmp_path / "debug", level="debug") as lines:
        LOG.debug("yes")
        logging.getLogger("botocore").debug("headers and all")
        access_log(health)
    assert [line["logger"] for line in lines.objects] == ["graviton.test", "graviton.access"]


def test_closing_leaves_logging_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger("graviton").level
    with logging_to(tmp_path / "log", level="error"):
        assert root.handlers != before[0]
    assert (root.handlers, root.level, logging.getLogger("graviton").level) == before


def test_settings_come_from_the_environment() -> None:
    assert log_settings_from({}) == LogSettings("", "info")
    assert {"GRAVITON_LOG_FORMAT", "GRAVITON_LOG_LEVEL"} <= KNOWN
    assert log_settings_from({"GRAVITON_LOG_FORMAT": "text", "GRAVITON_LOG_LEVEL": "error"}) == ("text", "error")
    for name in ("GRAVITON_LOG_FORMAT", "GRAVITON_LOG_LEVEL"):
        with pytest.raises(ConfigError, match=f"{name}: 'loud' is not one of"):
            log_settings_from({name: "loud"})


def test_without_a_setting_a_terminal_gets_text_and_all_else_json() -> None:
    ours, theirs = os.openpty()
    reading, writing = os.pipe()
    try:
        for descriptor in (theirs, writing):
            with Logs(clock=FakeClock(0), descriptor=descriptor):
                LOG.info("hello")
        assert os.read(ours, 1000) == b"1970-01-01T00:00:00.000000Z INFO graviton.test: hello\r\n"
        assert json.loads(os.read(reading, 1000))["message"] == "hello"
    finally:
        for descriptor in (ours, theirs, reading, writing):
            os.close(descriptor)


def test_fields_are_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/operations/logs.md").read_text()
    for field in ("time", "level", "logger", "message", *FIELDS, "exception"):
        assert f"| `{field}` |" in page


def test_a_reader_that_stops_does_not_stop_the_process() -> None:
    """Of a pipe that nobody reads it fills what it holds, of one that was closed nothing; both end in time."""
    code = (
        "import logging; from graviton.server.logs import Logs\n"
        "with Logs():\n"
        "    for _ in range(3_000): logging.getLogger('graviton').info('x' * 2_000)\n"
        "print('done')"
    )
    silent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    closed = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for process in (silent, closed):
        assert process.stdout is not None
        assert process.stderr is not None
        if process is closed:
            process.stderr.close()
        assert process.stdout.read() == b"done\n"
        assert process.wait(60) == 0
        process.stdout.close()
        process.stderr.close()
