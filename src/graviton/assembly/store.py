"""`Store`: what users hold. A `BlobStore` whose two sides are opened when it is first used (paired_sides.py).

Reading from a place where there is no store finds nothing and creates nothing; the first put makes the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from graviton.assembly import metadata_side, wiring
from graviton.assembly.paired_sides import PairedSides
from graviton.assembly.settings import Settings
from graviton.assembly.showing import shown
from graviton.core.chunking import Kernel
from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestEntry
from graviton.core.policies import BlobWritePlan, StorePolicy
from graviton.core.ranges import Span
from graviton.errors import NotFound
from graviton.metadata.marker import StoreMarker
from graviton.metadata.read_only import ReadOnly
from graviton.ports.any_store import AnyStore, QuotaUse
from graviton.ports.blobs import BlobReader, BlobSource, BlobStat, BlobWriteResult, SmallBlob
from graviton.ports.events import EventSink
from graviton.ports.kv import KeyValueStore
from graviton.ports.manifests import StoreTotals
from graviton.ports.metrics import MetricsRegistry
from graviton.ports.outbox import Outbox
from graviton.ports.tracing import Tracer
from graviton.stores.cas import CasBlobStore

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
        self._metrics = metrics
        self._budget = budget = wiring.process_budget(settings.memory_bytes)
        self._kernel = kernel = wiring.kernel_for(settings)
        self._side = side = wiring.block_side(settings, kernel, metrics, events)
        self.capabilities = wiring.store_capabilities(settings, side)
        layers = wiring.Layers(settings, kernel, side, policy, budget, metrics, events, tracer)
        self._pair = PairedSides(settings, side, partial(wiring.blob_store, layers), metrics)
        self._end_showing = shown(settings, kernel, budget, metrics)

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
        return self._pair.marker

    async def read_only(self) -> ReadOnly | None:
        """Why the metadata took no changes when it was opened, if it took none. Raises ConfigError."""
        await self.existing()
        return self._pair.read_only

    async def init(self) -> tuple[StoreMarker, bool]:
        """Make the store if there is none, and the bucket it lies in; its marker, and whether it was made now. Raises
        ConfigError, PermissionDenied, Unavailable."""
        return await self._pair.init()

    async def adopt(self, *, without_metadata: bool = False, retired: bool = False) -> StoreMarker:
        """Say that these blocks and this metadata belong together, whatever their markers say. Blocks whose metadata is
        missing or empty are refused, and nothing is touched, unless `without_metadata` says that it is lost for good:
        no blob is left then. Metadata that was moved elsewhere, or is being moved, is refused, unless `retired` says
        that it is lost there: what was put since is lost then. Raises ConfigError, and Conflict if a copy goes on."""
        return await self._pair.adopt(without_metadata=without_metadata, retired=retired)

    async def prepare(self) -> None:
        await self.init()

    async def existing(self) -> CasBlobStore | None:
        """The store behind this one, opened; None if there is none yet. Creates nothing. Raises ConfigError."""
        return await self._pair.existing()

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
        assert self._pair.kv is not None
        return self._pair.kv

    async def outbox(self) -> Outbox:
        """What happens in an existing store, whichever process does it. It ends with this object. Raises NotFound,
        ConfigError."""
        return metadata_side.outbox(self.settings, await self.metadata())

    async def for_writing(self) -> CasBlobStore:
        """The store behind this one, which is made if there is none. Raises ConfigError, PermissionDenied."""
        return await self._pair.for_writing()

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
        self._end_showing()
        await self._pair.aclose()
