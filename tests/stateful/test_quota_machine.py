"""The quota's books beside a plain model: puts in steps, deletes and undeletes that end anywhere, time that passes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from graviton.constraints.quota import Reservation
from graviton.errors import NotFound, StorageFull
from graviton.testing.conformance.metadata_values import Upload
from tests.unit.constraints.quotas import Books, upload

_T = TypeVar("_T")

BLOBS = {name: upload(size, name) for name, size in (("a", 10), ("b", 25), ("c", 40))}
NAMES = sorted(BLOBS)
HOLDERS = ["", "ann"]
DOMAINS = ["", "d"]
LIMITS = {"bytes": 100, "blobs": 4, "holder_bytes": 70, "holder_blobs": 3}
LIFETIME = 1000.0


class Put(NamedTuple):
    """A put that is under way."""

    reservation: Reservation
    name: str
    domain: str
    is_promised: bool = False
    is_committed: bool = False
    heard_ns: int = 0

    @property
    def blob(self) -> Upload:
        return BLOBS[self.name]


class QuotaMachine(RuleBasedStateMachine):
    """Whatever happens, in all there is never more than the limit, and what the books say of a holder is what it holds
    as soon as everything that was begun has been told the end of, or its time is past."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.books = Books(**LIMITS)
        self.puts: list[Put] = []
        self.held: set[tuple[str, str, str]] = set()
        """What the store holds: holder, domain, blob."""

    def run_(self, call: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run(call)

    def teardown(self) -> None:
        self.loop.close()

    def heard(self, put: Put, **changes: bool) -> None:
        self.puts.append(put._replace(heard_ns=self.books.clock.now_ns(), **changes))

    def too_late(self, put: Put) -> None:
        assert self.books.clock.now_ns() - put.heard_ns >= LIFETIME * 1e9, "its room was given away before its time"

    @rule(name=st.sampled_from(NAMES), holder=st.sampled_from(HOLDERS), domain=st.sampled_from(DOMAINS))
    def put(self, name: str, holder: str, domain: str) -> None:
        try:
            self.run_(self.books.put(BLOBS[name], holder, domain))
        except StorageFull:
            return
        self.held.add((holder, domain, name))

    @rule(
        name=st.sampled_from(NAMES),
        holder=st.sampled_from(HOLDERS),
        domain=st.sampled_from(DOMAINS),
        known=st.sampled_from(["nothing", "size", "name"]),
    )
    def begin(self, name: str, holder: str, domain: str, known: str) -> None:
        size = 0 if known == "nothing" else BLOBS[name].key.size
        keys = [BLOBS[name].key] if known == "name" else []
        before = self.run_(self.books.quota.usage()), self.run_(self.books.quota.usage(holder))
        try:
            reserve = self.books.quota.reserve(holder, size, domain=domain, lifetime_seconds=LIFETIME, keys=keys)
            made = self.run_(reserve)
        except StorageFull:
            together, own = before
            assert (
                together.bytes + together.reserved_bytes + size > LIMITS["bytes"]
                or together.blobs + together.reserved_blobs + 1 > LIMITS["blobs"]
                or own.bytes + own.reserved_bytes + size > LIMITS["holder_bytes"]
                or own.blobs + own.reserved_blobs + 1 > LIMITS["holder_blobs"]
            ), "refused, and there was room"
            assert not keys or (holder, domain, name) not in self.held, "what is held needs none"
        else:
            self.heard(Put(made, name, domain), is_promised=bool(keys))

    @precondition(lambda self: self.puts)
    @rule(data=st.data(), total=st.integers(0, 60))
    def grow(self, data: st.DataObject, total: int) -> None:
        put = data.draw(st.sampled_from(self.puts))
        if put.is_promised:
            return
        self.puts.remove(put)
        try:
            self.run_(put.reservation.grow(total))
        except StorageFull:
            self.puts.append(put)
        except NotFound:
            self.too_late(put)
        else:
            self.heard(put)

    @precondition(lambda self: self.puts)
    @rule(data=st.data())
    def promise(self, data: st.DataObject) -> None:
        put = data.draw(st.sampled_from(self.puts))
        if put.is_promised:
            return
        self.puts.remove(put)
        try:
            self.run_(put.reservation.promise(put.blob.key))
        except StorageFull:
            self.run_(put.reservation.release())
        except NotFound:
            self.too_late(put)
        else:
            self.heard(put, is_promised=True)

    @precondition(lambda self: any(put.is_promised for put in self.puts))
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        put = data.draw(st.sampled_from([put for put in self.puts if put.is_promised]))
        if put.is_committed:
            return
        try:
            self.run_(
                put.reservation.promise(put.blob.key)
            )  # a commit follows at once, or its time would have to count
        except NotFound:
            self.puts.remove(put)
            return
        self.run_(self.books.metadata.put(put.blob, put.reservation.holder, put.domain))
        self.held.add((put.reservation.holder, put.domain, put.name))
        self.heard(put, is_committed=True)

    @precondition(lambda self: self.puts)
    @rule(data=st.data(), names_it=st.booleans())
    def end(self, data: st.DataObject, names_it: bool) -> None:
        put = data.draw(st.sampled_from(self.puts))
        self.puts.remove(put)
        named = put.blob.key if names_it and put.is_committed else None
        self.run_(put.reservation.settle(named))

    @precondition(lambda self: self.puts)
    @rule(data=st.data())
    def end_without_a_word(self, data: st.DataObject) -> None:
        self.puts.remove(data.draw(st.sampled_from(self.puts)))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["told", "killed before", "killed after"]))
    def delete(self, data: st.DataObject, how: str) -> None:
        one = data.draw(st.sampled_from(sorted(self.held)))
        holder, domain, name = one
        blob = BLOBS[name]
        change = self.run_(self.books.quota.changing(holder, blob.key, domain))
        if how != "killed before":
            assert self.run_(self.books.metadata.repo.delete(blob.key, holder, domain)) is True
            self.held.remove(one)
        if how == "told":
            self.run_(change.settle())

    @rule(name=st.sampled_from(NAMES), holder=st.sampled_from(HOLDERS), domain=st.sampled_from(DOMAINS))
    def undelete(self, name: str, holder: str, domain: str) -> None:
        blob = BLOBS[name]
        try:
            change = self.run_(self.books.quota.changing(holder, blob.key, domain, comes_back=True))
        except StorageFull:
            return
        if self.run_(self.books.metadata.repo.undelete(blob.key, holder, domain)):
            self.held.add((holder, domain, name))
        self.run_(change.settle())

    @rule(seconds=st.sampled_from([1.0, LIFETIME / 2, LIFETIME]))
    def time_passes(self, seconds: float) -> None:
        self.books.clock.advance(seconds)

    @rule()
    def recover(self) -> None:
        self.run_(self.books.quota.recover())

    @invariant()
    def never_over(self) -> None:
        together = self.run_(self.books.quota.usage())
        blobs = {(domain, name) for _, domain, name in self.held}
        assert (together.bytes, together.blobs) == (sum(BLOBS[name].key.size for _, name in blobs), len(blobs))
        assert together.bytes <= LIMITS["bytes"]
        assert together.blobs <= LIMITS["blobs"]
        for holder in HOLDERS:
            own = [BLOBS[name].key.size for whose, _, name in self.held if whose == holder]
            assert sum(own) <= LIMITS["holder_bytes"], holder
            assert len(own) <= LIMITS["holder_blobs"], holder
            used = self.run_(self.books.quota.usage(holder))
            assert used.bytes + used.reserved_bytes >= sum(own), "what is held and not entered is reserved"
        self.run_(self.books.check())

    @rule()
    def everything_comes_to_its_end(self) -> None:
        """All puts are told the end of, and what was forgotten expires: then the books are exact."""
        for put in self.puts:
            self.run_(put.reservation.settle())
        self.puts = []
        self.books.clock.advance(LIFETIME + 1000)
        self.run_(self.books.quota.recover())
        for holder in HOLDERS:
            own = [BLOBS[name].key.size for whose, _, name in self.held if whose == holder]
            assert self.run_(self.books.quota.usage(holder)) == (sum(own), len(own), 0, 0)
        assert self.run_(self.books.quota.usage())[2:] == (0, 0)


TestQuotaBesideAModel = QuotaMachine.TestCase
TestQuotaBesideAModel.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
