"""The laws of the smaller ports, over the reference implementations."""

from collections.abc import Sequence

from graviton.backends.memory.events import InMemoryEventSink
from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.backends.memory.range_tracker import InMemoryRangeTracker
from graviton.backends.memory.replicas import InMemoryReplicaIndex
from graviton.backends.memory.schemas import InMemorySchemaStore
from graviton.backends.prometheus import PrometheusMetrics
from graviton.ports.capabilities import Capabilities
from graviton.ports.events import Event, EventSink
from graviton.ports.metrics import NoMetrics
from graviton.testing.conformance.events import EventSinkContract
from graviton.testing.conformance.metrics import MetricsRegistryContract
from graviton.testing.conformance.range_tracker import RangeTrackerContract
from graviton.testing.conformance.replicas import ReplicaIndexContract
from graviton.testing.conformance.schemas import SchemaStoreContract


class TestInMemoryReplicaIndex(ReplicaIndexContract):
    implementation = InMemoryReplicaIndex
    capabilities = Capabilities()

    def make_store(self) -> InMemoryReplicaIndex:
        return InMemoryReplicaIndex()


class TestInMemoryRangeTracker(RangeTrackerContract):
    implementation = InMemoryRangeTracker
    capabilities = Capabilities()

    def make_store(self) -> InMemoryRangeTracker:
        return InMemoryRangeTracker()


class TestInMemorySchemaStore(SchemaStoreContract):
    implementation = InMemorySchemaStore
    capabilities = Capabilities()

    def make_store(self) -> InMemorySchemaStore:
        return InMemorySchemaStore()


class TestInMemoryMetrics(MetricsRegistryContract):
    implementation = InMemoryMetrics

    def make_store(self) -> InMemoryMetrics:
        return InMemoryMetrics()


class TestPrometheusMetrics(MetricsRegistryContract):
    implementation = PrometheusMetrics

    def make_store(self) -> PrometheusMetrics:
        return PrometheusMetrics()


class TestNoMetrics(MetricsRegistryContract):
    implementation = NoMetrics
    keeps = False

    def make_store(self) -> NoMetrics:
        return NoMetrics()


class TestInMemoryEventSink(EventSinkContract):
    implementation = InMemoryEventSink
    overflow = 500

    def make_store(self) -> InMemoryEventSink:
        return InMemoryEventSink(capacity=100)

    async def delivered(self, sink: EventSink) -> Sequence[Event]:
        assert isinstance(sink, InMemoryEventSink)
        return sink.events
