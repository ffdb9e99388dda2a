"""A key-value store beside a dict: whatever Hypothesis does to both, they agree.

TestSqliteBesideADict = kv_machine(lambda folder: SqliteKeyValueStore(...), reopens=True)
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar
from unittest import TestCase

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from graviton.ports.kv import Delete, Durability, KeyValueStore, Put, ReadTransaction, Transaction

_T = TypeVar("_T")

# Few different ones, so that steps meet what earlier steps left; all that is special about order and prefixes is there.
NAMESPACES = st.sampled_from(["a", "ab"])
KEYS = st.sampled_from(
    [b"\x00", b"\x00\x00", b"a", b"a\x00", b"a\xff", b"aa", b"b", b"\x7f", b"\x80", b"\xff", b"\xff\xff"]
)
PREFIXES = st.just(b"") | KEYS | st.binary(max_size=2)
VALUES = st.sampled_from([b"", b"1", b"2", b"long " * 400])
OPERATIONS = st.builds(Put, NAMESPACES, KEYS, VALUES) | st.builds(Delete, NAMESPACES, KEYS)
LIMITS = st.none() | st.integers(0, 5)

STEPS = st.lists(
    st.tuples(st.just("put"), NAMESPACES, KEYS, VALUES)
    | st.tuples(st.just("delete"), NAMESPACES, KEYS)
    | st.tuples(st.just("put_many"), NAMESPACES, st.lists(st.tuples(KEYS, VALUES), max_size=4))
    | st.tuples(st.just("delete_many"), NAMESPACES, st.lists(KEYS, max_size=4))
    | st.tuples(st.just("delete_range"), NAMESPACES, PREFIXES, st.none() | KEYS)
    | st.tuples(st.just("get"), NAMESPACES, KEYS)
    | st.tuples(st.just("get_many"), NAMESPACES, st.lists(KEYS, max_size=4))
    | st.tuples(st.just("scan"), NAMESPACES, PREFIXES, st.none() | KEYS, LIMITS),
    max_size=8,
)

Model = dict[str, dict[bytes, bytes]]


class Planned(Exception):  # noqa: N818 - no error of ours
    """What a transaction raises to be undone."""


def scan_model(
    model: Model, namespace: str, prefix: bytes, after: bytes | None, limit: int | None
) -> list[tuple[bytes, bytes]]:
    """The definition of a scan."""
    pairs = sorted(model.get(namespace, {}).items())
    found = [pair for pair in pairs if pair[0].startswith(prefix) and (after is None or pair[0] > after)]
    return found[:limit]


def step_model(model: Model, step: tuple[Any, ...]) -> object:
    """One step of a transaction on the dict."""
    kind, namespace, *rest = step
    if kind in ("put", "put_many"):
        pairs = [tuple(rest)] if kind == "put" else rest[0]
        if pairs:
            model.setdefault(namespace, {}).update(pairs)
        return None
    table = model.get(namespace, {})
    if kind == "delete":
        return table.pop(rest[0], None) is not None
    if kind == "delete_many":
        for key in rest[0]:
            table.pop(key, None)
        return None
    if kind == "delete_range":
        start, end = rest
        for key in [key for key in table if key >= start and (end is None or key < end)]:
            del table[key]
        return None
    if kind == "get":
        return table.get(rest[0])
    if kind == "get_many":
        return [table.get(key) for key in rest[0]]
    return scan_model(model, namespace, *rest)


def step_store(tx: Transaction | ReadTransaction, step: tuple[Any, ...]) -> object:
    """The same step on the store."""
    kind, namespace, *rest = step
    result: object = getattr(tx, kind)(namespace, *rest)
    return list(result) if kind == "scan" else result  # type: ignore[call-overload]


def copy_of(model: Model) -> Model:
    return {namespace: dict(table) for namespace, table in model.items()}


class KeyValueMachine(RuleBasedStateMachine):
    """Every operation of the port on both sides."""

    make: Callable[[Path], KeyValueStore]
    reopens: bool

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="graviton-machine-"))
        self.loop = asyncio.Runner()
        self.model: Model = {}

    def run_(self, call: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run(call)

    @initialize()
    def open(self) -> None:
        self.store = type(self).make(self.folder)

    @rule(namespace=NAMESPACES, key=KEYS, value=VALUES)
    def put(self, namespace: str, key: bytes, value: bytes) -> None:
        self.run_(self.store.put(namespace, key, value))
        self.model.setdefault(namespace, {})[key] = value

    @rule(namespace=NAMESPACES, key=KEYS)
    def get(self, namespace: str, key: bytes) -> None:
        assert self.run_(self.store.get(namespace, key)) == self.model.get(namespace, {}).get(key)

    @rule(namespace=NAMESPACES, key=KEYS)
    def delete(self, namespace: str, key: bytes) -> None:
        there = self.model.get(namespace, {}).pop(key, None) is not None
        assert self.run_(self.store.delete(namespace, key)) is there

    @rule(namespace=NAMESPACES, key=KEYS, expected=st.none() | VALUES, value=st.none() | VALUES, right=st.booleans())
    def compare_and_set(
        self, namespace: str, key: bytes, expected: bytes | None, value: bytes | None, right: bool
    ) -> None:
        there = self.model.get(namespace, {}).get(key)
        expected = there if right else expected
        assert self.run_(self.store.compare_and_set(namespace, key, expected, value)) is (there == expected)
        if there == expected:
            if value is not None:
                self.model.setdefault(namespace, {})[key] = value
            elif there is not None:
                del self.model[namespace][key]

    @rule(operations=st.lists(OPERATIONS, max_size=6))
    def batch(self, operations: list[Put | Delete]) -> None:
        self.run_(self.store.batch(operations))
        for one in operations:
            if isinstance(one, Put):
                self.model.setdefault(one.namespace, {})[one.key] = one.value
            else:
                self.model.get(one.namespace, {}).pop(one.key, None)

    @rule(steps=STEPS, fails=st.booleans(), durability=st.sampled_from(Durability))
    def transact(self, steps: list[tuple[Any, ...]], fails: bool, durability: Durability) -> None:
        after = copy_of(self.model)
        expected = [step_model(after, step) for step in steps]

        def fn(tx: Transaction) -> None:
            assert [step_store(tx, step) for step in steps] == expected
            if fails:
                raise Planned

        try:
            self.run_(self.store.transact(fn, durability))
        except Planned:
            assert fails
        else:
            assert not fails
            self.model = after

    @rule(steps=STEPS)
    def read(self, steps: list[tuple[Any, ...]]) -> None:
        looks = [step for step in steps if step[0] in ("get", "get_many", "scan")]
        found = self.run_(self.store.read(lambda tx: [step_store(tx, step) for step in looks]))
        assert found == [step_model(self.model, step) for step in looks]

    @rule(namespace=NAMESPACES, prefix=PREFIXES, after=st.none() | KEYS)
    def scan(self, namespace: str, prefix: bytes, after: bytes | None) -> None:
        async def found() -> list[tuple[bytes, bytes]]:
            return [pair async for pair in self.store.scan(namespace, prefix, after)]

        assert self.run_(found()) == scan_model(self.model, namespace, prefix, after, None)

    @precondition(lambda self: self.reopens)
    @rule()
    def reopen(self) -> None:
        self.run_(self.store.aclose())
        self.store = type(self).make(self.folder)

    @invariant()
    def the_store_is_the_dict(self) -> None:
        if not hasattr(self, "store"):
            return
        found = self.run_(self.store.read(lambda tx: {name: dict(tx.scan(name)) for name in ("a", "ab", "b")}))
        assert found == {name: self.model.get(name, {}) for name in ("a", "ab", "b")}
        names = self.run_(self.store.namespaces())
        assert names == sorted(set(names))
        assert {name for name, table in self.model.items() if table} <= set(names) <= {"a", "ab"}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run_(self.store.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)


def kv_machine(make: Callable[[Path], KeyValueStore], *, reopens: bool, steps: int = 30) -> type[TestCase]:
    """A test case that runs the machine on stores of `make(folder)`, which opens the same place for the same folder."""
    machine = type("Machine", (KeyValueMachine,), {"make": staticmethod(make), "reopens": reopens})
    case: type[TestCase] = machine.TestCase
    case.settings = settings(stateful_step_count=steps)  # type: ignore[attr-defined]
    return case
