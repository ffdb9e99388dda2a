"""A manifest page that fails the checksum of its row: reads name blob and bytes, and the hint they give is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from graviton.assembly.store import Store
from graviton.core.limits import MAX_PAGE_ENTRIES
from graviton.core.ranges import Span
from graviton.errors import IntegrityError
from graviton.metadata.rows import PAGES
from tests.unit.services.stores import noise, opened, spoil_row, verified

BLOCK_BYTES = 64
PAGE_BYTES = MAX_PAGE_ENTRIES * BLOCK_BYTES
DATA = noise(2 * PAGE_BYTES + 100)


async def read(store: Store, span: Span | None = None) -> bytes:
    [stat] = [stat async for stat in store.list()]
    async with await store.get(stat.key, span) as reader:
        return await reader.read()


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("missing", [True, False])
async def test_page_is_named_and_the_next_put_repairs(tmp_path: Path, number: int, missing: bool) -> None:
    # Blocks in memory would be refused by a second store; one store does it all.
    async with opened(tmp_path, f"fixed-v1:{BLOCK_BYTES}", blob_backend="memory") as store:
        blob = (await store.put(DATA)).key
        kv = await store.metadata()
        key = [key async for key, _ in kv.scan(PAGES)][number]
        if missing:
            await kv.delete(PAGES, key)
        else:
            spoil_row(tmp_path, PAGES, key)
        end = min((number + 1) * PAGE_BYTES, len(DATA))
        for span in (None, Span(number * PAGE_BYTES, end)):
            with pytest.raises(IntegrityError) as caught:
                await read(store, span)
            assert blob.text in caught.value.message
            assert f"(bytes {number * PAGE_BYTES}-{end - 1})" in caught.value.message
            assert "Put the same file again" in caught.value.hint
        others = [at for at in range(3) if at != number]
        for at in others:
            span = Span(at * PAGE_BYTES, min((at + 1) * PAGE_BYTES, len(DATA)))
            assert await read(store, span) == DATA[span.start : span.end]
        assert not (await store.put(DATA)).created
        assert await read(store) == DATA
        assert [one for one in (await verified(store)).damages if one.blob is not None] == []
