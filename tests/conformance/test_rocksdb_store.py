"""The laws of `BlobStore` about lives (cancelling, closing, opening again), over files and metadata in RocksDB.

All of them hold there; the others say little about metadata that those of test_metadata_on_rocksdb.py do not.
"""

from __future__ import annotations

import os

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.backends.filesystem import FsBlockStore
from graviton.ports.blobs import BlobStore
from graviton.testing.conformance.blob_lifecycle import BlobLifecycleLaws
from tests.conformance import test_embedded_blobs
from tests.support import SMALL_SPEC


class TestStoreOnRocksdb(BlobLifecycleLaws):
    port = BlobStore
    implementation = Store
    capabilities = FsBlockStore.capabilities._replace(multi_process=False)
    large_bytes = 200_000

    def make_store(self) -> Store:
        kernel = os.environ.get("GRAVITON_KERNEL", "auto")
        settings = Settings(fs_root=self.scratch / "store", metadata="rocksdb", kernel=kernel, chunker=SMALL_SPEC)
        self.store = Store(settings)
        return self.store

    leftovers = test_embedded_blobs.TestEmbeddedStore.leftovers
