"""The reference stores beside dicts; and stores that are wrong in one way, which the machines must notice."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from graviton.backends.memory.blobs import InMemoryBlobStore
from graviton.backends.memory.kv import InMemoryKeyValueStore
from graviton.core.keys import BlobKey
from graviton.core.ranges import Span
from graviton.errors import NotFound
from graviton.ports.blobs import BlobReader
from graviton.ports.kv import Durability, Transaction
from tests.stateful.blob_machine import BlobMachine, blob_machine
from tests.stateful.kv_machine import KeyValueMachine, kv_machine

TestInMemoryKeyValueStoreBesideADict = kv_machine(lambda folder: InMemoryKeyValueStore(), reopens=False)
TestInMemoryBlobStoreBesideADict = blob_machine(lambda folder: InMemoryBlobStore(), reopens=False)

_T = TypeVar("_T")

# No shrinking: that something is found is all that matters here.
QUICK = settings(
    max_examples=1000,
    stateful_step_count=40,
    derandomize=True,  # the same search every time: long enough once is long enough
    phases=[Phase.generate],
    database=None,
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class KeepsWhatFailed(InMemoryKeyValueStore):
    """Undoes nothing."""

    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        failed: list[Exception] = []

        def caught(tx: Transaction) -> _T | None:
            try:
                return fn(tx)
            except Exception as error:  # noqa: BLE001 - the point of this store
                failed.append(error)
                return None

        result = await super().transact(caught, durability)
        if failed:
            raise failed[0]
        return result  # type: ignore[return-value]


class ForgetsEmptyValues(InMemoryKeyValueStore):
    async def get(self, namespace: str, key: bytes) -> bytes | None:
        return await super().get(namespace, key) or None


class ShiftedRanges(InMemoryBlobStore):
    async def get(self, key: BlobKey, span: Span | None = None, domain: str = "") -> BlobReader:
        if span is not None and 0 < span.start < span.end < key.size:
            span = Span(span.start - 1, span.end - 1)
        return await super().get(key, span, domain)


class DeletesForEverybody(InMemoryBlobStore):
    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        held = await super().delete(key, holder, domain)
        if held:
            self.blobs.pop((domain, key), None)
        return held


@pytest.mark.parametrize(
    ("machine", "store"),
    [
        (KeyValueMachine, ForgetsEmptyValues),
        (KeyValueMachine, KeepsWhatFailed),
        (BlobMachine, ShiftedRanges),
        (BlobMachine, DeletesForEverybody),
    ],
)
def test_machine_notices_a_wrong_store(machine: type[RuleBasedStateMachine], store: Callable[[], object]) -> None:
    broken = type("Broken", (machine,), {"make": staticmethod(lambda folder: store()), "reopens": False})
    with pytest.raises((AssertionError, NotFound)):
        run_state_machine_as_test(broken, settings=QUICK)
