"""Uploads into the embedded default, and shorter into PostgreSQL and S3, with servers that crash."""

import os
import secrets
from pathlib import Path

import pytest

import graviton
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.core.chunking import ChunkerSpec
from tests.s3_server import default_server
from tests.stateful.test_postgres_machine import on_postgres
from tests.stateful.upload_machine import upload_machine

SPEC = ChunkerSpec.parse("w16-v1:256:1024:4096")


def embedded(folder: Path) -> Store:
    return graviton.open(folder / "store", chunker=SPEC.text)


def in_memory(folder: Path) -> Store:
    return graviton.open("memory://", chunker=SPEC.text)


def in_a_bucket(folder: Path) -> Store:
    server = default_server()
    return Store(
        Settings(
            blob_backend="s3",
            s3=server.config(_bucket(), prefix=f"run-{secrets.token_hex(6)}/blocks"),
            fs_root=folder / "store",
            kernel=os.environ.get("GRAVITON_KERNEL", "auto"),
            chunker=ChunkerSpec.parse("w16-v1:1024:4096:16384"),
        )
    )


_buckets: list[str] = []


def _bucket() -> str:
    if not _buckets:
        _buckets.append(default_server().new_bucket())
    return _buckets[0]


TestUploadsInMemory = upload_machine(in_memory, steps=12, examples=25)
TestUploadsOnTheDisk = upload_machine(embedded, steps=10, examples=15)
TestUploadsOnPostgres = pytest.mark.postgres(upload_machine(on_postgres, steps=8, examples=6))
TestUploadsInABucket = pytest.mark.s3(upload_machine(in_a_bucket, steps=6, examples=5))
