"""Two servers with nothing in common but a database and a bucket: an upload goes from one to the other."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from graviton.backends.objectstore.clients import s3_client
from tests.integration.cli_process import COMMAND, children_env
from tests.postgres_schemas import drop_schema
from tests.postgres_server import server as postgres
from tests.s3_server import rclone_server
from tests.server.serving import Served, raw_head
from tests.server.test_uploads import begin, id_of, offset_of, part, patch

pytestmark = pytest.mark.postgres

MIB = 1024 * 1024


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """Of a store in a schema and a bucket of its own."""
    s3 = rclone_server()
    bucket, schema = s3.new_bucket(), f"uploads_{os.urandom(8).hex()}"
    made = {
        "GRAVITON_BLOB_BACKEND": "minio",
        "QUASAR_MINIO_URL": s3.endpoint,
        "MINIO_ROOT_USER": s3.access_key,
        "MINIO_ROOT_PASSWORD": s3.secret_key,
        "GRAVITON_S3_BLOCK_BUCKET": bucket,
        "GRAVITON_METADATA": "postgres",
        "PG_JDBC_URL": postgres().url(schema),
    }
    for args in (["db", "migrate"], ["store", "init"]):
        command = [*COMMAND, "--root", str(tmp_path / "first"), *args]
        subprocess.run(command, env=children_env() | made, check=True, capture_output=True)
    yield made
    await drop_schema(postgres(), schema)


def parts_in(settings: dict[str, str]) -> list[str]:
    config = rclone_server().config(settings["GRAVITON_S3_BLOCK_BUCKET"])
    found = s3_client(config, 1).list_objects_v2(Bucket=config.bucket).get("Contents", [])
    return [one["Key"] for one in found if ".uploads/" in one["Key"]]


def test_an_upload_goes_on_at_another_host(tmp_path: Path, settings: dict[str, str]) -> None:
    data = os.urandom(24 * MIB)
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    with Served(tmp_path / "first", **settings) as first, Served(tmp_path / "other", **settings) as other:
        address = begin(first, len(data), Repr_Digest=f"sha-256=:{digest}:")
        assert patch(first, address, 0, data[: 6 * MIB + 1]).status == 204
        assert offset_of(other, address) == 6 * MIB + 1
        piece = data[6 * MIB + 1 : 10 * MIB]
        checksum = "sha256 " + base64.b64encode(hashlib.sha256(piece).digest()).decode()
        wrong = bytes([piece[0] ^ 1]) + piece[1:]
        assert patch(other, address, 6 * MIB + 1, wrong, Upload_Checksum=checksum).status == 460
        assert patch(other, address, 6 * MIB + 1, piece, Upload_Checksum=checksum).status == 204
        assert part(other, address, 18 * MIB, data[18 * MIB : 20 * MIB], len(data)).status == 204
        assert parts_in(settings)
        with first.connect() as connection:  # it is killed in the middle of this
            told = f"Upload-Offset: {10 * MIB}", f"Content-Length: {8 * MIB}"
            connection.sendall(raw_head("PATCH", address, "Content-Type: application/offset+octet-stream", *told))
            connection.sendall(data[10 * MIB : 12 * MIB])
            assert offset_of(first, address) == 10 * MIB  # nothing was told of what is on its way
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
        offset = offset_of(other, address)
        assert 10 * MIB <= offset <= 12 * MIB
        assert patch(other, address, offset, data[offset : 18 * MIB]).status == 204
        assert part(other, address, 20 * MIB, data[20 * MIB :], len(data)).status in (202, 204)
        deadline = time.monotonic() + 60
        while (state := other.request("GET", address).json)["state"] != "done" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert state["blob"] == id_of(data)
        assert other.request("GET", f"/api/blobs/{id_of(data)}").body == data
        assert parts_in(settings) == []
