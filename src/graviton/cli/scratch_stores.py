"""Stores like the configured one, in places that are thrown away: what laws are tried on."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

from graviton.assembly import metadata_side, wiring
from graviton.assembly.block_side import BlockSide
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.core.chunking import PRESETS
from graviton.ports.blocks import BlockStore
from graviton.ports.kv import KeyValueStore
from graviton.ports.reclaimer import BlockReclaimer

__all__ = ["ScratchStores"]


class ScratchStores:
    """One for each law, in a space of its own. `metadata` is a folder for those that lie in files."""

    def __init__(self, settings: Settings, metadata: Path) -> None:
        self._kernel = wiring.kernel_for(settings)
        # Small blocks: laws about blobs of many blocks are then quick.
        self.settings = settings._replace(chunker=PRESETS["small"])
        self._prefix = f"{_bucket_folder(settings)}check-{secrets.token_hex(8)}"
        self._metadata = metadata
        self._sides: dict[int, BlockSide] = {}
        self.block_capabilities = wiring.block_side(settings, self._kernel).blocks.capabilities
        self.metadata_capabilities = metadata_side.open_metadata(self.settings, create=False).capabilities
        self.blob_capabilities = self.block_capabilities

    def _files(self, space: str, scratch: Path) -> Settings:
        made = self.settings._replace(fs_root=scratch / "store", meta_path=self._metadata / space / "meta")
        return made if made.s3 is None else made._replace(s3=replace(made.s3, prefix=f"{self._prefix}/{space}"))

    async def _at(self, space: str, scratch: Path) -> Settings:
        settings = self._files(space, scratch)
        if settings.postgres is None:
            return settings
        from graviton.assembly.database import make_scratch_schema

        return await make_scratch_schema(settings, _schema(space))

    async def tear_down(self, space: str) -> None:
        """Remove what a law left in the database."""
        if self.settings.postgres is not None:
            from graviton.assembly.database import drop_scratch_schema

            await drop_scratch_schema(self.settings, _schema(space))

    async def clean_up(self) -> None:
        """Remove what laws left in the bucket."""
        if self.settings.s3 is not None:
            from graviton.assembly.buckets import remove_below

            await remove_below(self.settings.s3, self._prefix)

    def blocks(self, space: str, scratch: Path) -> BlockStore:
        """A block store; its reclaimer is found by it."""
        side = wiring.block_side(self._files(space, scratch), self._kernel)
        self._sides[id(side.blocks)] = side
        return side.blocks

    def reclaimer(self, blocks: BlockStore) -> BlockReclaimer:
        """The reclaimer of a block store made here."""
        return self._sides[id(blocks)].reclaimer

    async def pairs(self, space: str, scratch: Path) -> KeyValueStore:
        """A metadata store."""
        return metadata_side.open_metadata(await self._at(space, scratch), create=True)

    async def blobs(self, space: str, scratch: Path) -> Store:
        """A whole store."""
        return Store(await self._at(space, scratch))


def _bucket_folder(settings: Settings) -> str:
    """Where in the bucket a check works: beside the blocks, where the rights for them hold too (docs/guides/s3.md)."""
    folder, slash, _ = settings.s3.prefix.rpartition("/") if settings.s3 is not None else ("", "", "")
    return folder + slash


def _schema(space: str) -> str:
    """The space of a law as the name of a schema."""
    return "graviton_check_" + space.rpartition("-")[2]
