"""`Store`: what users hold. A `BlobStore` that opens its two sides when it is first used.

Reading from a place where there is no store finds nothing and creates nothing; the first put makes the store. Before
its first use the two store markers are compared, so that blocks and metadata of different stores never meet.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING

from graviton.assembly import wiring
from graviton.assembly.settings import Settings
from graviton.assembly.showing import shown
from graviton.core.chunking import DEFAULT_SPEC, Kernel
from graviton.core.hashing import DEFAULT_HASH
from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestEntry
from graviton.core.policies import BlobWritePlan, StorePolicy
from graviton.core.ranges import Span
from graviton.errors import ConfigError, NotFound, Unavailable
from graviton.metadata.block_prefix import adopt_prefix, check_prefix, remember_prefix
from graviton.metadata.marker import Decision, StoreMarker
from graviton.metadata.pairing import adopt, check_adoptable, initialise, look, take_back
from graviton.metadata.read_only import MetadataStore, ReadOnly
from graviton.ports.any_store import AnyStore, QuotaUse
from graviton.ports.blobs import BlobReader, BlobSource, BlobStat, BlobWriteResult, SmallBlob
from graviton.ports.events import EventSink
from graviton.ports.kv import KeyValueStore
from graviton.ports.manifests import StoreTotals
from graviton.ports.metrics import MetricsRegistry
from graviton.ports.outbox import Outbox
from graviton.ports.tracing import Tracer
from graviton.stores.cas import CasBlobStore
from graviton.stores.results import warn_if_other

if TYPE_CHECKING:
    from graviton.constraints.quota import Quota

__all__ = ["Store"]


class Store(AnyStore):
    """A store in a place that settings name. Use as `async with`, or call `aclose`."""

    def __init__(
        self,
        settings: Settings,
        *,
        policy: StorePolicy | None = None,
        metrics: MetricsRegistry | None = None,
        events: EventSink | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Touches nothing yet. `policy` applies to puts whose plan has none. Raises ConfigError if this process has
        stores with another memory budget already."""
        self.settings = settings
        self._budget = wiring.process_budget(settings.memory_bytes)
        self._policy = policy
        self._metrics, self._events, self._tracer = metrics, events, tracer
        self._kernel = wiring.kernel_for(settings)
        self._side = wiring.block_side(settings, self._kernel, metrics, events)
        self.capabilities = wiring.store_capabilities(settings, self._side)
        self._kv: MetadataStore | None = None
        self._read_only: ReadOnly | None = None
        self._cas: CasBlobStore | None = None
        self._marker: StoreMarker | None = None
        self._knows_prefix = self._side.place is None
        """The metadata remembers where the blocks are."""
        self._opening = asyncio.Lock()
        self._closed = False
        self._end_showing = shown(settings, self._kernel, self._budget, metrics)

    @property
    def kernel(self) -> Kernel:
        """The implementation that cuts and hashes."""
        return self._kernel

    @property
    def metrics(self) -> MetricsRegistry | None:
        """Where it reports, if anywhere."""
        return self._metrics

    @property
    def sides(self) -> wiring.BlockSide:
        """What lies beside the metadata, for maintenance."""
        return self._side

    async def marker(self) -> StoreMarker | None:
        """What the store says about itself; None if there is no store yet. Raises ConfigError."""
        await self.existing()
        return self._marker

    async def read_only(self) -> ReadOnly | None:
        """Why the metadata took no changes when it was opened, if it took none. Raises ConfigError."""
        await self.existing()
        return self._read_only

    async def init(self) -> tuple[StoreMarker, bool]:
        """Make the store if there is none, and the bucket it lies in; its marker, and whether it was made now. Raises
        ConfigError, PermissionDenied, Unavailable."""
        async with self._opening:
            self._check_open()
            if self._side.make is not None:
                await self._side.make()
            made = await self._create()
        assert self._marker is not None
        return self._marker, made

    async def adopt(self, *, without_metadata: bool = False, retired: bool = False) -> StoreMarker:
        """Say that these blocks and this metadata belong together, whatever their markers say. Blocks whose metadata is
        missing or empty are refused, and nothing is touched, unless `without_metadata` says that it is lost for good:
        no blob is left then. Metadata that was moved elsewhere, or is being moved, is refused, unless `retired` says
        that it is lost there: what was put since is lost then. Raises ConfigError, and Conflict if a copy goes on."""
        async with self._opening:
            self._check_open()
            if not without_metadata:
                await self._check_adoptable()
            kv = self._kv or wiring.open_metadata(self.settings, True, self._metrics)
            self._kv = kv
            place = wiring.metadata_place(self.settings)
            if retired:
                await take_back(kv, place, self._side.markers)
            algo = self.settings.hash or DEFAULT_HASH
            spec = self.settings.chunker or DEFAULT_SPEC
            marker = await adopt(kv, place, self._side.markers, algo, spec.text)
            if self._side.place is not None:
                await adopt_prefix(kv, self._side.place)
            return marker

    async def _check_adoptable(self) -> None:
        if self._kv is None and wiring.metadata_exists(self.settings):
            self._kv = wiring.open_metadata(self.settings, False, self._metrics)
        kv = self._kv or wiring.empty_metadata()
        markers, is_empty = self._side.markers, self._side.is_empty
        await check_adoptable(kv, wiring.metadata_place(self.settings), markers.where, is_empty)

    async def prepare(self) -> None:
        await self.init()

    async def existing(self) -> CasBlobStore | None:
        """The store behind this one, opened; None if there is none yet. Creates nothing. Raises ConfigError."""
        if self._cas is None:
            async with self._opening:
                self._check_open()
                if self._cas is None:
                    await self._open_existing()
        return self._cas

    async def required(self) -> CasBlobStore:
        """Like `existing`, but raises NotFound if there is no store."""
        cas = await self.existing()
        if cas is None:
            raise NotFound(
                f"there is no store at {self._side.markers.where}",
                operation="store.open",
                subject=self._side.markers.where,
                hint="Check --root or GRAVITON_FS_ROOT; `graviton put` or `graviton store init` makes a store.",
            )
        return cas

    async def metadata(self) -> KeyValueStore:
        """The metadata of an existing store, for backup and checks. Raises NotFound, ConfigError."""
        await self.required()
        assert self._kv is not None
        return self._kv

    async def outbox(self) -> Outbox:
        """What happens in an existing store, whichever process does it. It ends with this object. Raises NotFound,
        ConfigError."""
        return wiring.outbox(self.settings, await self.metadata())

    async def for_writing(self) -> CasBlobStore:
        """The store behind this one, which is made if there is none. Raises ConfigError, PermissionDenied."""
        if self._cas is None or not self._knows_prefix:
            async with self._opening:
                self._check_open()
                await self._create()
        assert self._cas is not None
        return self._cas

    async def _open_existing(self) -> None:
        """Open what is there. A metadata store that is missing counts as an empty one, and is not made by looking."""
        kv = self._kv
        if kv is None and wiring.metadata_exists(self.settings):
            kv = wiring.open_metadata(self.settings, False, self._metrics)
        if kv is None:
            try:
                await self._look(wiring.empty_metadata())
                return
            except ConfigError:
                if not wiring.metadata_exists(self.settings):
                    raise
                # Another process made the store between the two looks.
                kv = wiring.open_metadata(self.settings, False, self._metrics)
        try:
            decision = await self._look(kv)
        except BaseException:
            self._kv = None
            await kv.aclose()
            raise
        if decision is Decision.READY:
            self._use(kv)
        else:
            await kv.aclose()

    async def _look(self, kv: KeyValueStore) -> Decision:
        pair = await look(kv, wiring.metadata_place(self.settings), self._side.markers, self._side.is_empty)
        self._marker, self._read_only = pair.marker, pair.read_only
        if pair.decision is Decision.READY and self._side.place is not None:
            self._knows_prefix = await check_prefix(kv, wiring.metadata_place(self.settings), self._side.place)
        return pair.decision

    async def _create(self) -> bool:
        """Open the store, making it if there is none; whether it was made. Nothing is touched where it is refused."""
        if self._cas is None:  # somebody else may have opened it while we waited, and is using it
            await self._open_existing()
        if self._cas is not None:
            assert self._kv is not None
            await self._remember_prefix(self._kv)
            return False
        settings = self.settings
        kv = wiring.open_metadata(settings, True, self._metrics)
        try:
            self._marker, made = await initialise(
                kv,
                wiring.metadata_place(settings),
                self._side.markers,
                self._side.is_empty,
                settings.hash or DEFAULT_HASH,
                (settings.chunker or DEFAULT_SPEC).text,
            )
            await self._remember_prefix(kv)
        except BaseException:
            await kv.aclose()
            raise
        self._use(kv)
        return made

    async def _remember_prefix(self, kv: KeyValueStore) -> None:
        """Before the first write of the first program that does so."""
        if not self._knows_prefix and self._side.place is not None:
            await remember_prefix(kv, wiring.metadata_place(self.settings), self._side.place)
            self._knows_prefix = True

    def _use(self, kv: MetadataStore) -> None:
        self._kv = kv
        if self._read_only is not None:
            refusal = self._read_only.refusal(wiring.metadata_place(self.settings))
            warnings.warn(f"{refusal.message}. {refusal.hint}", UserWarning, stacklevel=4)
        marker, settings = self._marker, self.settings
        self._cas = wiring.blob_store(
            settings,
            self._kernel,
            kv,
            self._side,
            marker,
            self._policy,
            self._budget,
            self._metrics,
            self._events,
            self._tracer,
        )
        if marker is not None:
            warn_if_other("hash", settings.hash.value if settings.hash else None, marker.hash.value)
            warn_if_other("chunker", settings.chunker.text if settings.chunker else None, marker.chunker)

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("this store is closed", operation="store")

    async def put(self, source: BlobSource, plan: BlobWritePlan | None = None) -> BlobWriteResult:
        return await (await self.for_writing()).put(source, plan)

    async def put_many(
        self, sources: Iterable[bytes | SmallBlob], plan: BlobWritePlan | None = None
    ) -> AsyncIterator[BlobWriteResult]:
        """See `CasBlobStore.put_many`."""
        async with aclosing((await self.for_writing()).put_many(sources, plan)) as results:
            async for result in results:
                yield result

    async def get(self, key: BlobKey, span: Span | None = None, domain: str = "") -> BlobReader:
        return await (await self.required()).get(key, span, domain)

    async def stat(self, key: BlobKey, domain: str = "") -> BlobStat | None:
        cas = await self.existing()
        return None if cas is None else await cas.stat(key, domain)

    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        cas = await self.existing()
        return False if cas is None else await cas.delete(key, holder, domain)

    async def undelete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        """See `CasBlobStore.undelete`."""
        cas = await self.existing()
        return False if cas is None else await cas.undelete(key, holder, domain)

    async def quota(self) -> Quota | None:
        """The quota of an existing store; None if it has no limit. Raises NotFound, ConfigError."""
        limits = (await self.required()).limits
        return None if limits is None else limits.quota

    async def quota_use(self) -> QuotaUse | None:
        quota = await self.quota()
        if quota is None:
            return None
        used, limits = await quota.usage(), quota.limits
        return QuotaUse(*used, limits.bytes, limits.blobs, limits.holder_bytes, limits.holder_blobs)

    async def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int | None = None, domain: str = ""
    ) -> AsyncIterator[BlobStat]:
        cas = await self.existing()
        if cas is not None:
            async for stat in cas.list(prefix, after, limit, domain):
                yield stat

    async def manifest(self, key: BlobKey, domain: str = "") -> AsyncIterator[ManifestEntry]:
        async for entry in (await self.required()).manifest(key, domain):
            yield entry

    async def totals(self, domain: str = "") -> StoreTotals:
        cas = await self.existing()
        return StoreTotals() if cas is None else await cas.totals(domain)

    async def aclose(self) -> None:
        """See `CasBlobStore.aclose` for what becomes of operations that are going on."""
        self._closed = True
        self._end_showing()
        async with self._opening:  # who is opening it comes to an end first, or its threads would stay
            cas, self._cas = self._cas, None
            kv, self._kv = self._kv, None
        try:
            if cas is not None:
                await cas.aclose()
            else:
                await self._side.blocks.aclose()
        finally:
            if kv is not None:
                await kv.aclose()
