"""Reading all metadata, to verify and to copy it, holds few rows at once where they are large."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from graviton.assembly.store import Store
from graviton.metadata.audit import audit
from graviton.metadata.copy_rows import read_digests
from tests.integration.metadata_kinds import KINDS, opened, spot

pytestmark = pytest.mark.postgres

_ROWS, _ROW_BYTES = 48, 1 << 20
_MAX_BYTES = 24 << 20
"""Batches end at 4 MiB; the one before is still there when the next is read, and each may be so in two forms."""


@pytest.mark.parametrize("kind", KINDS)
async def test_large_rows_are_not_all_read_at_once(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "store"
    async with spot(kind, tmp_path) as place:
        async with Store(place.settings(root)) as store:
            await store.put(b"some bytes")
        async with opened(place, root) as one:
            for number in range(_ROWS):
                await one.kv.put("mine", b"%04d" % number, bytes([number]) * _ROW_BYTES)
            tracemalloc.start()
            try:
                assert [finding async for finding in audit(one.kv)] == []
                audited = tracemalloc.get_traced_memory()[1]
                tracemalloc.reset_peak()
                counts = (await read_digests(one.kv, lambda rows: None)).by_namespace()
                read = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert counts["mine"][0] == _ROWS
            assert (audited < _MAX_BYTES, read < _MAX_BYTES) == (True, True), (audited, read)
