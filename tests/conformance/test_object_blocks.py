"""The laws of `BlockStore` and `BlockReclaimer` on object storage: two S3 servers, and the driver's store in memory."""

import secrets
from collections.abc import Sequence

import pytest
from obstore.store import MemoryStore

from graviton.backends.objectstore._driver import Driver
from graviton.backends.objectstore.blocks import ObjectBlockStore, S3BlockStore
from graviton.backends.objectstore.reclaimer import ObjectBlockReclaimer
from graviton.backends.objectstore.requests import Requests
from graviton.core.locators import CasLocatorStrategy
from graviton.ports.blocks import BlockStore, CanonicalBlock
from graviton.ports.capabilities import Capabilities
from graviton.ports.reclaimer import TrashEntry
from graviton.testing.conformance.blocks import BlockStoreContract
from graviton.testing.conformance.reclaimer import BlockReclaimerContract
from tests.s3_proxy import Exchange, Kind, S3Proxy
from tests.s3_server import S3Server, default_server, moto_server

pytestmark = pytest.mark.s3

S3_ABILITIES = Capabilities(persistent=True, durable=True, multi_process=True)


class _OnS3:
    """A prefix of its own for each test, in one bucket of `server`."""

    bucket = ""

    @staticmethod
    def server() -> S3Server:
        return default_server()

    def make_store(self) -> S3BlockStore:
        if not type(self).bucket:
            type(self).bucket = self.server().new_bucket()
        if not hasattr(self, "prefix"):
            self.prefix = f"run-{secrets.token_hex(6)}/blocks"
        return S3BlockStore(self.server().config(self.bucket, prefix=self.prefix, retry_seconds=2))

    async def raw_write(self, store: BlockStore, one: CanonicalBlock) -> None:
        assert isinstance(store, ObjectBlockStore)
        await store.driver.put(store.path(one.key), bytes(one.payload), "raw")

    async def raw_read(self, store: BlockStore, one: CanonicalBlock) -> bytes | None:
        assert isinstance(store, ObjectBlockStore)
        return await store.driver.get_small(store.path(one.key), "raw", 1 << 25)

    async def put_foreign_files(self, store: BlockStore) -> None:
        assert isinstance(store, ObjectBlockStore)
        digest = "00" * 32
        for name in (
            "README",
            f"{digest}-5.zst",
            digest,
            f"{digest}-05",
            f"{digest}-0",
            f"{'AB' * 32}-5",
            f"{digest}-x",
        ):
            await store.driver.put(f"{store.layout.prefix}/blake3/{name}", b"12345", "foreign")
        await store.driver.put(f"{store.layout.prefix}/md5/{digest}-5", b"12345", "foreign")
        await store.driver.put(f"{store.layout.prefix}/{digest}-5", b"12345", "foreign")

    async def temporary_files(self, store: BlockStore) -> Sequence[str]:
        assert isinstance(store, ObjectBlockStore)
        return [one.path async for one in store.driver.list(store.layout.prefix, "raw") if "tmp" in one.path]

    def make_reclaimer(self, store: BlockStore) -> ObjectBlockReclaimer:
        assert isinstance(store, ObjectBlockStore)
        return ObjectBlockReclaimer(store)

    async def raw_write_trash(self, store: BlockStore, entry: TrashEntry, data: bytes) -> None:
        assert isinstance(store, ObjectBlockStore)
        path = ObjectBlockReclaimer(store).path(entry)
        await store.driver.put(path, data, "raw")


async def _denied(exchange: Exchange) -> None:
    await exchange.answer(403, "AccessDenied")


class _Troubled(_OnS3):
    """A server that can be gone, and one whose policy lets nobody write."""

    async def break_backend(self, store: BlockStore) -> None:
        assert isinstance(store, ObjectBlockStore)
        nowhere = self.server().config(self.bucket, endpoint="http://127.0.0.1:9", retry_seconds=0)
        store.driver = S3BlockStore(nowhere).driver

    async def make_read_only(self, store: BlockStore) -> None:
        assert isinstance(store, ObjectBlockStore)
        proxy = await S3Proxy(self.server()).__aenter__()
        for kind in (Kind.PUT, Kind.COPY, Kind.DELETE, Kind.BULK_DELETE):
            proxy.plan(kind, _denied, times=None)
        before, close = store.driver, store.aclose
        store.driver = S3BlockStore(proxy.server.config(self.bucket, prefix=self.prefix, retry_seconds=0)).driver

        async def aclose() -> None:
            await close()
            await before.aclose()
            await proxy.__aexit__(None, None, None)

        store.aclose = aclose  # type: ignore[method-assign]


class TestS3BlockStore(_Troubled, BlockStoreContract):
    implementation = S3BlockStore
    capabilities = S3_ABILITIES


class TestS3BlockReclaimer(_OnS3, BlockReclaimerContract):
    implementation = ObjectBlockReclaimer
    capabilities = S3_ABILITIES


class _OnMoto(_Troubled):
    @staticmethod
    def server() -> S3Server:
        return moto_server()


class TestS3BlockStoreWithConditions(_OnMoto, BlockStoreContract):
    """This server honours If-None-Match."""

    implementation = S3BlockStore
    capabilities = S3_ABILITIES


class TestS3BlockReclaimerWithConditions(_OnMoto, BlockReclaimerContract):
    implementation = ObjectBlockReclaimer
    capabilities = S3_ABILITIES


class _InMemory(_OnS3):
    def make_store(self) -> ObjectBlockStore:  # type: ignore[override]
        if not hasattr(self, "memory"):
            self.memory = MemoryStore()
        requests = Requests("memory", max_requests=16, max_bytes=1 << 26, retry_seconds=2)
        return ObjectBlockStore(
            Driver(self.memory, requests, keeps_memory=True), CasLocatorStrategy("memory"), Capabilities()
        )


class TestObjectBlockStore(_InMemory, BlockStoreContract):
    implementation = ObjectBlockStore


class TestObjectBlockReclaimer(_InMemory, BlockReclaimerContract):
    implementation = ObjectBlockReclaimer
    capabilities = Capabilities()
