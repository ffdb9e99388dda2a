"""The laws of `BlobStore`, over the content-addressed store with limits so generous that none is met. Without any it is
the same as in test_cas_blobs.py and test_embedded_blobs.py."""

import os

from graviton.assembly.limit_settings import LimitSettings
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.constraints.quota import Quota, QuotaLimits
from graviton.constraints.throttle import Throttle
from graviton.core.chunking import select_kernel
from graviton.ports.blobs import BlobStore
from graviton.stores.cas import CasBlobStore
from graviton.stores.limits.limits import StoreLimits
from tests.conformance.test_cas_blobs import TestCasBlobStoreOnMemory as OnMemory
from tests.conformance.test_embedded_blobs import TestEmbeddedStore as Embedded
from tests.support import SMALL_SPEC, World, YieldingKv

GENEROUS = 2**50


class TestStoreWithGenerousLimits(OnMemory):
    def make_store(self) -> CasBlobStore:
        kv = YieldingKv()
        limits = StoreLimits(
            quota=Quota(kv, QuotaLimits(GENEROUS, GENEROUS, GENEROUS, GENEROUS)),
            uploads=Throttle(GENEROUS, full=True),
            downloads=Throttle(GENEROUS, full=True),
            max_blob_bytes=GENEROUS,
        )
        kernel = select_kernel(os.environ.get("GRAVITON_KERNEL", "auto"))
        self.world = World(kernel, kv=kv, limits=limits)
        return self.world.store

    async def leftovers(self, store: BlobStore) -> list[str]:
        used = await self.world.store.limits.quota.usage()
        left = [f"{used} is reserved"] if used.reserved_bytes or used.reserved_blobs else []
        return [*await super().leftovers(store), *left]


class TestEmbeddedStoreWithGenerousLimits(Embedded):
    def make_store(self) -> Store:
        kernel = os.environ.get("GRAVITON_KERNEL", "auto")
        limits = LimitSettings(QuotaLimits(GENEROUS, GENEROUS, GENEROUS, GENEROUS), GENEROUS, GENEROUS, GENEROUS)
        settings = Settings(fs_root=self.scratch / "store", kernel=kernel, chunker=SMALL_SPEC, limits=limits)
        self.store = Store(settings)
        return self.store
