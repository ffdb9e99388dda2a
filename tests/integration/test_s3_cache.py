"""The command line with a cache in front of a bucket: what it reads, and what it must not hide."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import pytest

from graviton.backends.objectstore.clients import s3_client
from tests.integration.command_runs import graviton as command
from tests.integration.test_s3_command import environment, names
from tests.s3_server import default_server

pytestmark = pytest.mark.s3


def test_blocks_are_read_from_the_disk_and_a_loss_in_the_bucket_shows(tmp_path: Path) -> None:
    server, bucket = default_server(), f"test-{secrets.token_hex(6)}"
    file, copy, cache = tmp_path / "file", tmp_path / "copy", tmp_path / "cache"
    file.write_bytes(os.urandom(5_000_000))
    cached = environment(server, bucket) | {"GRAVITON_CACHE_ROOT": str(cache), "GRAVITON_CACHE_BYTES": "64MiB"}

    def run(*args: str | Path, code: int = 0) -> list[dict[str, Any]]:
        done = command(tmp_path / "store", *args, "--json", **cached)
        assert done.code == code, done.err
        return done.objects

    run("store", "init")
    blob = run("put", file)[0]["id"]
    assert not cache.exists()
    run("get", blob, "-o", copy)
    assert copy.read_bytes() == file.read_bytes()
    entries = list((cache / "blocks/blake3").iterdir())
    blocks = [name for name in names(server, bucket) if "/blake3/" in name]
    assert sorted(path.name for path in entries) == sorted(f"{name.rpartition('/')[2]}.cached" for name in blocks)
    assert len(blocks) > 1

    client = s3_client(server.config(bucket), 1)
    for name in blocks[1:]:
        client.delete_object(Bucket=bucket, Key=name)
    copy.unlink()
    run("get", blob, "-o", copy)
    assert copy.read_bytes() == file.read_bytes(), "all of it is here"
    damages = [one for one in run("verify", blob, code=1) if "block" in one]
    assert len(damages) == len(blocks) - 1
    run("put", copy)
    assert run("verify", "--all")[-1]["clean"] is True
    assert len([name for name in names(server, bucket) if "/blake3/" in name]) == len(blocks)

    [check] = [one for one in run("doctor") if one.get("check") == "cache"]
    assert (check["level"], check["entries"], check["keeper"]) == ("ok", len(blocks), None)
