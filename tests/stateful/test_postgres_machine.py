"""The blob store with its metadata on PostgreSQL beside a dict, closed and opened again in between."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest
from hypothesis import settings

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.core.chunking import ChunkerSpec
from tests.postgres_schemas import make_schema
from tests.postgres_server import server
from tests.stateful.blob_machine import blob_machine

pytestmark = pytest.mark.postgres

SPEC = ChunkerSpec.parse("w16-v1:256:1024:4096")


def on_postgres(folder: Path) -> Store:
    """A store whose schema is called like its folder, made the first time; it goes with the server of the tests."""
    schema = f"m_{folder.name.rpartition('-')[2].lower()}"
    seen = folder / "has-a-schema"
    if not seen.exists():
        seen.touch()
        # On a thread, because an event loop runs on this one.
        making = threading.Thread(target=lambda: asyncio.run(make_schema(server(), schema)))
        making.start()
        making.join()
    kernel = os.environ.get("GRAVITON_KERNEL", "auto")
    return Store(
        Settings(
            fs_root=folder / "store",
            kernel=kernel,
            chunker=SPEC,
            metadata="postgres",
            postgres=server().config(schema),
        )
    )


TestStoreOnPostgresBesideADict = blob_machine(on_postgres, reopens=True, steps=10)
TestStoreOnPostgresBesideADict.settings = settings(stateful_step_count=10, max_examples=25)  # type: ignore[attr-defined]
