"""The laws of `Tracer`, and those of `BlockStore` behind one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from graviton.backends.memory.blocks import InMemoryBlockStore
from graviton.ports.blocks import BlockStore, CanonicalBlock
from graviton.ports.tracing import NoTracer
from graviton.server.tracing import OtelTracer, OtelTracing
from graviton.stores.layers.traced import TracedBlockStore
from graviton.testing.conformance.blocks import BlockStoreContract
from graviton.testing.conformance.tracing import Recorded, TracerContract


class TestNoTracer(TracerContract):
    implementation = NoTracer

    def make_store(self) -> NoTracer:
        return NoTracer()


class TestOtelTracer(TracerContract):
    implementation = OtelTracer

    async def set_up(self) -> None:
        self.spans = InMemorySpanExporter()
        self.tracing = OtelTracing(self.spans)

    async def tear_down(self) -> None:
        await self.tracing.aclose()

    def make_store(self) -> OtelTracer:
        return self.tracing.tracer

    @contextmanager
    def recording(self) -> Iterator[None]:
        with self.tracing.request("GET", None):
            yield

    async def recorded(self) -> Sequence[Recorded]:
        self.tracing._provider.force_flush()
        spans = self.spans.get_finished_spans()
        names = {span.context.span_id: "" if span.name == "GET" else span.name for span in spans if span.context}
        found = []
        for span in spans:
            facts = {name.removeprefix("graviton."): value for name, value in (span.attributes or {}).items()}
            error = facts.pop("error.type", "")
            if span.name != "GET":
                assert span.parent is not None
                found.append(Recorded(span.name, names[span.parent.span_id], facts, error))  # type: ignore[arg-type]
        return found


class TestTracedBlocks(BlockStoreContract):
    implementation = TracedBlockStore
    capabilities = InMemoryBlockStore.capabilities

    def make_store(self) -> TracedBlockStore:
        return TracedBlockStore(InMemoryBlockStore(), NoTracer())

    async def raw_write(self, store: BlockStore, one: CanonicalBlock) -> None:
        self.inner(store).blocks[one.key] = bytes(one.payload)

    async def raw_read(self, store: BlockStore, one: CanonicalBlock) -> bytes | None:
        return self.inner(store).blocks.get(one.key)

    def inner(self, store: BlockStore) -> InMemoryBlockStore:
        assert isinstance(store, TracedBlockStore)
        assert isinstance(store._inner, InMemoryBlockStore)
        return store._inner
