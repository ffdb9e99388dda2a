"""The two sides of one store, its blocks and its metadata: opened when they are needed, and never for another store.

Before the first use the two store markers are compared. Looking where there is no store finds none and makes nothing.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable

from graviton.assembly import metadata_side
from graviton.assembly.block_side import BlockSide
from graviton.assembly.settings import Settings
from graviton.core.chunking import DEFAULT_SPEC, ChunkerSpec
from graviton.core.hashing import DEFAULT_HASH, HashAlgo
from graviton.errors import ConfigError, Unavailable
from graviton.metadata.block_prefix import adopt_prefix, check_prefix, remember_prefix
from graviton.metadata.marker import Decision, StoreMarker
from graviton.metadata.pairing import adopt, check_adoptable, initialise, look, take_back
from graviton.metadata.read_only import MetadataStore, ReadOnly
from graviton.ports.kv import KeyValueStore
from graviton.ports.metrics import MetricsRegistry
from graviton.stores.cas import CasBlobStore
from graviton.stores.results import warn_if_other

__all__ = ["PairedSides"]


class PairedSides:
    """Those of one store. Every method raises ConfigError where they do not belong together, and Unavailable after
    `aclose`."""

    def __init__(
        self,
        settings: Settings,
        side: BlockSide,
        compose: Callable[[KeyValueStore, StoreMarker | None], CasBlobStore],
        metrics: MetricsRegistry | None,
    ) -> None:
        """`compose` makes the store over metadata that fit the blocks."""
        self._settings, self._side, self._compose, self._metrics = settings, side, compose, metrics
        self._place = metadata_side.metadata_place(settings)
        self.kv: MetadataStore | None = None
        """The metadata, once they are open."""
        self.marker: StoreMarker | None = None
        """What the store says about itself; None if there is none, or it was not looked at yet."""
        self.read_only: ReadOnly | None = None
        """Why the metadata took no changes when they were opened, if they took none."""
        self._cas: CasBlobStore | None = None
        self._knows_prefix = side.place is None
        """The metadata remembers where the blocks are."""
        self._opening = asyncio.Lock()
        self._is_closed = False

    async def existing(self) -> CasBlobStore | None:
        """The store over both; None if there is none yet."""
        if self._cas is None:
            async with self._opening:
                self._check_open()
                if self._cas is None:
                    await self._open_existing()
        return self._cas

    async def for_writing(self) -> CasBlobStore:
        """The store over both, which is made if there is none."""
        if self._cas is None or not self._knows_prefix:
            async with self._opening:
                self._check_open()
                await self._create()
        assert self._cas is not None
        return self._cas

    async def init(self) -> tuple[StoreMarker, bool]:
        """Make the store if there is none, and the bucket; its marker, and whether it was made now."""
        async with self._opening:
            self._check_open()
            if self._side.make is not None:
                await self._side.make()
            made = await self._create()
        assert self.marker is not None
        return self.marker, made

    async def adopt(self, *, without_metadata: bool, retired: bool) -> StoreMarker:
        """Make the two belong together, whatever their markers say: see `Store.adopt`."""
        async with self._opening:
            self._check_open()
            if not without_metadata:
                await self._check_adoptable()
            self.kv = kv = self.kv or self._open_metadata(create=True)
            if retired:
                await take_back(kv, self._place, self._side.markers)
            algo, spec = self._made_with
            marker = await adopt(kv, self._place, self._side.markers, algo, spec.text)
            if self._side.place is not None:
                await adopt_prefix(kv, self._side.place)
            return marker

    async def _check_adoptable(self) -> None:
        if self.kv is None and metadata_side.metadata_exists(self._settings):
            self.kv = self._open_metadata(create=False)
        kv = self.kv or metadata_side.empty_metadata()
        await check_adoptable(kv, self._place, self._side.markers.where, self._side.is_empty)

    async def _open_existing(self) -> None:
        """Open what is there. A metadata store that is missing counts as an empty one, and is not made by looking."""
        kv = self.kv
        if kv is None and metadata_side.metadata_exists(self._settings):
            kv = self._open_metadata(create=False)
        if kv is None:
            try:
                await self._look(metadata_side.empty_metadata())
                return
            except ConfigError:
                if not metadata_side.metadata_exists(self._settings):
                    raise
                # Another process made the store between the two looks.
                kv = self._open_metadata(create=False)
        try:
            decision = await self._look(kv)
        except BaseException:
            self.kv = None
            await kv.aclose()
            raise
        if decision is Decision.READY:
            self._use(kv)
        else:
            await kv.aclose()

    async def _look(self, kv: KeyValueStore) -> Decision:
        pair = await look(kv, self._place, self._side.markers, self._side.is_empty)
        self.marker, self.read_only = pair.marker, pair.read_only
        if pair.decision is Decision.READY and self._side.place is not None:
            self._knows_prefix = await check_prefix(kv, self._place, self._side.place)
        return pair.decision

    async def _create(self) -> bool:
        """Open the store, making it if there is none; whether it was made. Nothing is touched where it is refused."""
        if self._cas is None:  # somebody else may have opened it while we waited, and is using it
            await self._open_existing()
        if self._cas is not None:
            assert self.kv is not None
            await self._remember_prefix(self.kv)
            return False
        kv = self._open_metadata(create=True)
        try:
            algo, spec = self._made_with
            self.marker, made = await initialise(
                kv, self._place, self._side.markers, self._side.is_empty, algo, spec.text
            )
            await self._remember_prefix(kv)
        except BaseException:
            await kv.aclose()
            raise
        self._use(kv)
        return made

    @property
    def _made_with(self) -> tuple[HashAlgo, ChunkerSpec]:
        return self._settings.hash or DEFAULT_HASH, self._settings.chunker or DEFAULT_SPEC

    def _open_metadata(self, *, create: bool) -> MetadataStore:
        return metadata_side.open_metadata(self._settings, create, self._metrics)

    async def _remember_prefix(self, kv: KeyValueStore) -> None:
        """Before the first write of the first program that does so."""
        if not self._knows_prefix and self._side.place is not None:
            await remember_prefix(kv, self._place, self._side.place)
            self._knows_prefix = True

    def _use(self, kv: MetadataStore) -> None:
        self.kv = kv
        if self.read_only is not None:
            refusal = self.read_only.refusal(self._place)
            warnings.warn(f"{refusal.message}. {refusal.hint}", UserWarning, stacklevel=4)
        self._cas = self._compose(kv, self.marker)
        marker, settings = self.marker, self._settings
        if marker is not None:
            warn_if_other("hash", settings.hash.value if settings.hash else None, marker.hash.value)
            warn_if_other("chunker", settings.chunker.text if settings.chunker else None, marker.chunker)

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable("this store is closed", operation="store")

    async def aclose(self) -> None:
        """Close both, and the store over them."""
        self._is_closed = True
        async with self._opening:  # who is opening it comes to an end first, or its threads would stay
            cas, self._cas = self._cas, None
            kv, self.kv = self.kv, None
        try:
            if cas is not None:
                await cas.aclose()
            else:
                await self._side.blocks.aclose()
        finally:
            if kv is not None:
                await kv.aclose()
