"""A server over blocks that lie where uploads cannot wait: everything else works."""

from __future__ import annotations

from pathlib import Path

import pytest

from graviton.assembly.block_side import BlockSide
from graviton.assembly.server_settings import ServerSettings
from graviton.assembly.services import open_services
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.errors import Unsupported
from graviton.server.http.context import Context
from graviton.server.http.routes import uploads


async def test_other_clouds_take_whole_blobs_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = Store.sides.fget
    assert sides is not None

    def without(store: Store) -> BlockSide:
        side: BlockSide = sides(store)
        return side._replace(part_place=None)

    monkeypatch.setattr(Store, "sides", property(without))
    async with open_services(Settings(fs_root=tmp_path / "store")) as services:
        context = Context(services, ServerSettings())
        for ask in (
            uploads.describe_uploads.fn,
            uploads.list_uploads.fn,
        ):  # clients look at the first before they begin
            with pytest.raises(Unsupported):
                await ask(context)
        assert (await services.store.put(b"hello")).created
