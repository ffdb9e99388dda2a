"""The command line and the library with blocks in a bucket, chosen by environment or by address."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import graviton
from graviton.backends.memory.events import InMemoryEventSink
from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.backends.objectstore.clients import s3_client
from graviton.concurrency.executors import in_own_thread
from graviton.core.clock import SystemClock
from graviton.errors import ConfigError
from graviton.ports.events import EventKind
from graviton.ports.metrics import MetricKeys
from tests.integration.command_runs import Run
from tests.integration.command_runs import graviton as command
from tests.s3_proxy import S3Proxy, Seen
from tests.s3_server import S3Server, default_server, moto_server

pytestmark = pytest.mark.s3

PORTS = ("BlockReclaimer", "BlockStore") if os.environ.get("FAULTS_REACH") == "long" else ("BlockReclaimer",)
"""Whose laws `store check` tries in a bucket. Those of the second are thousands of requests; they hold on the same
server in tests/conformance/test_object_blocks.py."""

Command: TypeAlias = Callable[..., Run]


def environment(server: S3Server, bucket: str) -> dict[str, str]:
    """What the seeds' deployments set."""
    return {
        "GRAVITON_BLOB_BACKEND": "minio",
        "QUASAR_MINIO_URL": server.endpoint,
        "MINIO_ROOT_USER": server.access_key,
        "MINIO_ROOT_PASSWORD": server.secret_key,
        "GRAVITON_S3_BLOCK_BUCKET": bucket,
    }


@pytest.fixture(params=[default_server, moto_server], ids=["s3", "moto"])
def place(request: pytest.FixtureRequest) -> tuple[S3Server, str]:
    """A server, and the name of a bucket that is not there."""
    return request.param(), f"test-{secrets.token_hex(6)}"


def names(server: S3Server, bucket: str) -> list[str]:
    found = s3_client(server.config(bucket), 1).list_objects_v2(Bucket=bucket)
    return [one["Key"] for one in found.get("Contents", ())]


def test_a_store_from_its_first_day(place: tuple[S3Server, str], tmp_path: Path) -> None:
    server, bucket = place
    root, file, copy = tmp_path / "store", tmp_path / "file", tmp_path / "copy"
    file.write_bytes(os.urandom(3_000_000))

    def run(*args: str | Path, code: int = 0, **more: str) -> list[dict[str, Any]]:
        done = command(root, *args, "--json", **(environment(server, bucket) | more))
        assert done.code == code, done.err
        return done.objects

    refused = command(root, "put", file, **environment(server, bucket))
    assert refused.code == 1
    assert f"there is no bucket {bucket}" in refused.err
    assert "graviton store init" in refused.err

    assert run("store", "init")[0]["created"] is True
    assert run("store", "init")[0]["created"] is False
    assert names(server, bucket) == ["cas/blocks/graviton-store.json"]
    [put] = run("put", file)
    assert run("put", file)[0]["fresh_blocks"] == 0
    keys = [one["key"] for one in run("stat", put["id"], "--blocks") if "key" in one]
    places = {f"cas/blocks/{algo}/{digest}-{size}" for algo, digest, size in (key.split(":") for key in keys)}
    assert set(names(server, bucket)) == places | {"cas/blocks/graviton-store.json"}
    run("get", put["id"], "-o", copy)
    assert copy.read_bytes() == file.read_bytes()
    run("verify", "--all")
    checks = {check["check"]: check for check in run("doctor") if "check" in check}
    assert checks["bucket"]["level"] == "ok"
    assert checks["bucket"]["seconds"] > 0
    run("rm", put["id"], "--yes")
    assert run("ls") == []


def test_other_places_are_refused(tmp_path: Path) -> None:
    server = default_server()
    root, file, settings = tmp_path / "store", tmp_path / "file", environment(server, server.new_bucket())
    file.write_bytes(b"some bytes")
    assert command(root, "put", file, **settings).code == 0
    for other in (
        {"GRAVITON_S3_BLOCK_PREFIX": "other/blocks"},
        {"GRAVITON_S3_BLOCK_BUCKET": server.new_bucket()},
        {"GRAVITON_FS_ROOT": str(tmp_path / "another")},
    ):
        done = command(Path(other.get("GRAVITON_FS_ROOT", root)), "put", file, **(settings | other))
        assert done.code == 1
        assert "store adopt" in done.err


@pytest.mark.parametrize("name", ["QUASAR_MINIO_URL", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"])
def test_missing_variable_stops_the_start_and_is_named(tmp_path: Path, name: str) -> None:
    settings = environment(default_server(), "whatever")
    del settings[name]
    done = command(tmp_path, "ls", **settings)
    assert done.code == 1
    assert f"needs {name}, and it is not set" in done.err
    assert done.err.count("\n") == 1


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("args", [["ls"], ["store", "init"], ["doctor"]], ids=" ".join)
@pytest.mark.parametrize("says", ["cannot be reached", "took too long"])
def test_server_that_does_not_answer_is_told_of_soon(args: list[str], says: str, silent: str, tmp_path: Path) -> None:
    address = silent if says == "took too long" else "http://127.0.0.1:1"
    began = SystemClock().monotonic()
    done = command(tmp_path, *args, **(environment(default_server(), "whatever") | {"QUASAR_MINIO_URL": address}))
    assert SystemClock().monotonic() - began < 15, "3 s for each of the two that doctor asks"
    assert done.code == 1
    told = done.out if args == ["doctor"] else done.err
    assert f"the server {says}" in told
    assert "QUASAR_MINIO_URL" in told
    assert args == ["doctor"] or done.err.count("\n") == 1


def test_doctor_reports_settings_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    settings = environment(default_server(), default_server().new_bucket())
    for wrong, says in (
        ({"AWS_CA_BUNDLE": str(tmp_path / "empty.pem")}, "empty.pem has none"),
        ({"AWS_PROFILE": "a-typing-error"}, "a-typing-error"),
    ):
        done = command(tmp_path / "store", "doctor", **(settings | wrong))
        assert done.code == 1
        assert "PROBLEM bucket" in done.out
        assert says in done.out
        assert "This is a bug" not in done.out + done.err


def test_doctor_names_the_variable_that_the_address_came_from(tmp_path: Path) -> None:
    server = default_server()
    settings = environment(server, server.new_bucket()) | {"GRAVITON_BLOB_BACKEND": "s3"}
    del settings["QUASAR_MINIO_URL"]
    done = command(tmp_path, "doctor", **settings, AWS_ENDPOINT_URL_S3=server.endpoint)
    assert f"AWS_ENDPOINT_URL_S3 = {server.endpoint}  (environment)" in done.out
    assert "QUASAR_MINIO_URL" not in done.out


def test_backup_is_not_restored_beside_somebody_elses_blocks(tmp_path: Path) -> None:
    """All of its blocks would be called lost."""
    server = default_server()
    file, backup, settings = tmp_path / "file", tmp_path / "backup", environment(server, server.new_bucket())
    file.write_bytes(os.urandom(100_000))
    assert command(tmp_path / "one", "put", file, **settings).code == 0
    assert command(tmp_path / "one", "meta", "backup", backup, **settings).code == 0
    other = settings | {"GRAVITON_S3_BLOCK_BUCKET": server.new_bucket()}
    assert command(tmp_path / "other", "store", "init", **other).code == 0
    for wrong, says in (
        (other, "there is store "),
        ({"GRAVITON_S3_BLOCK_BUCKET": server.new_bucket()}, "there is no store"),
        ({"GRAVITON_S3_BLOCK_BUCKET": "no-such-bucket"}, "there is no bucket"),
        ({"GRAVITON_S3_BLOCK_PREFIX": "cas/other"}, "there is no store"),
    ):
        for more in ([], ["--trust"]):
            done = command(tmp_path / "two", "meta", "restore", backup, *more, **(settings | wrong))
            assert done.code == 1
            assert says in done.err
    done = command(tmp_path / "two", "meta", "restore", backup, "--json", **settings)
    assert done.code == 0, done.err
    assert done.objects[0]["missing_blocks"] == 0


def test_metadata_and_marker_are_lost_and_the_backup_brings_all_back(tmp_path: Path) -> None:
    server = default_server()
    bucket = server.new_bucket()
    file, backup, settings = tmp_path / "file", tmp_path / "backup", environment(server, bucket)
    file.write_bytes(os.urandom(100_000))
    blob = command(tmp_path / "one", "put", file, "--json", **settings).objects[0]["id"]
    assert command(tmp_path / "one", "meta", "backup", backup, **settings).code == 0
    s3_client(server.config(bucket), 1).delete_object(Bucket=bucket, Key="cas/blocks/graviton-store.json")
    two = tmp_path / "two"
    for args in (["store", "adopt"], ["store", "init"], ["meta", "restore", backup]):
        refused = command(two, *args, **settings)
        assert refused.code == 1
    assert "--trust" in refused.err
    for args in (["meta", "restore", backup, "--trust"], ["store", "adopt"], ["verify", "--all"]):
        done = command(two, *args, **settings)
        assert done.code == 0, done.err
    assert command(two, "get", blob, "-o", tmp_path / "back", **settings).code == 0
    assert (tmp_path / "back").read_bytes() == file.read_bytes()


def test_wrong_keys_are_no_permission_and_are_never_shown(tmp_path: Path) -> None:
    server = default_server()
    settings = environment(server, server.new_bucket()) | {"MINIO_ROOT_PASSWORD": "not-the-password"}
    for args in (["ls"], ["doctor"], ["store", "init"]):
        done = command(tmp_path, *args, **settings)
        assert done.code == 1
        assert "MINIO_ROOT_PASSWORD" in done.out + done.err
        assert "not-the-password" not in done.out + done.err


def test_store_check_tries_the_laws_in_the_bucket(tmp_path: Path) -> None:
    """And leaves nothing there. rclone, after a delete beside a put of the same name, keeps listing it."""
    server = moto_server()
    bucket = server.new_bucket()
    (tmp_path / "store").mkdir()

    async def check(forward: S3Server) -> list[Seen]:
        async with S3Proxy(forward) as proxy:
            settings = environment(proxy.server, bucket)
            ports = [f"--port={port}" for port in PORTS]
            args = ("store", "check", *ports, "--json")
            done = await in_own_thread(lambda: command(tmp_path / "store", *args, **settings))
            assert done.code == 0, done.err
            assert done.objects[-1]["kept"] > 15
            return proxy.seen

    keys = {seen.key for seen in asyncio.run(check(server)) if seen.key}
    assert keys
    assert all(key.startswith("cas/check-") for key in keys), "where the documented rights hold"
    assert names(server, bucket) == []


async def test_an_address_opens_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = default_server()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    address = f"s3://{server.new_bucket()}/some/prefix?endpoint={server.endpoint}"
    metrics, events = InMemoryMetrics(), InMemoryEventSink()
    async with graviton.open(address, metadata=tmp_path / "meta.sqlite", metrics=metrics, events=events) as store:
        key = (await store.put(b"some bytes")).key
        await store.put(b"some bytes")
    async with graviton.open(address, metadata=tmp_path / "meta.sqlite") as store, await store.get(key) as reader:
        assert await reader.read() == b"some bytes"
    told = [event for event in events.events if event.kind is EventKind.BLOCK_STORED]
    assert [event.data["locator"].startswith("s3://") for event in told] == [True]
    shown = metrics.snapshot()
    moved = {
        series.labels: value for series, value in shown.counters.items() if series.name == MetricKeys.BACKEND_BYTES
    }
    assert moved[("backend", "s3"), ("operation", "put")] >= 10
    assert [value for series, value in shown.gauges.items() if series.name == MetricKeys.BACKEND_IN_FLIGHT] == [0]


async def test_addresses_of_folders_and_memory(tmp_path: Path) -> None:
    async with graviton.open(f"file://{tmp_path}/store") as store:
        key = (await store.put(b"some bytes")).key
    async with graviton.open(tmp_path / "store") as store:
        assert await store.stat(key) is not None
    async with graviton.open("memory://") as store:
        key = (await store.put(b"some bytes")).key
        assert await store.stat(key) is not None


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/prefix",
        "gs://bucket",
        "ftp://host/x",
        "file://relative",
        "memory://x",
        "s3://b/x?key=1",
        "s3://B_/x",
    ],
)
def test_address_that_cannot_be_opened_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        graviton.open(address, metadata=None if address.endswith(("prefix", "bucket")) else "meta.sqlite")
