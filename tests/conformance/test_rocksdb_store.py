"""The laws of `BlobStore`, over files and metadata in RocksDB."""

from __future__ import annotations

import os

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.backends.filesystem import FsBlockStore
from tests.conformance.test_embedded_blobs import TestEmbeddedStore as _Embedded
from tests.support import SMALL_SPEC


class TestStoreOnRocksdb(_Embedded):
    capabilities = FsBlockStore.capabilities._replace(multi_process=False)

    def make_store(self) -> Store:
        self.store = Store(
            Settings(
                fs_root=self.scratch / "store",
                metadata="rocksdb",
                kernel=os.environ.get("GRAVITON_KERNEL", "auto"),
                chunker=SMALL_SPEC,
            )
        )
        return self.store


del _Embedded
