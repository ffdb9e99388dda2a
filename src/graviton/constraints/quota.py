"""`Quota`: how much a store may keep, in all and for each holder. Reserved first, then settled; never over in a race.

    reservation = await quota.reserve(holder, size)     # before bytes are accepted
    ... await reservation.grow(bytes_so_far)            # where the size was not known
    await reservation.promise(key)                      # every block is durable, the blob not visible yet
    ... the commit ...
    await reservation.settle(key)                       # or `release`, if nothing came of it

Every decision is one transaction on the store's own metadata, so it holds between processes too. None waits for the
disk: what comes after it does (the commit of the blob), and makes it durable. The books: `quota_books.py`. What can go
wrong in between, and what then: docs/decisions/0050-quota.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from graviton.concurrency.calls import own_copy
from graviton.concurrency.turns import InTurns
from graviton.constraints.quota_books import Books, expired, load
from graviton.constraints.quota_limits import QuotaLimits
from graviton.constraints.quota_rows import Amount, ReservationRow
from graviton.constraints.quota_usage import Usage, largest_possible, usage
from graviton.core.clock import Clock, SystemClock
from graviton.core.keys import BlobKey
from graviton.core.limits import MAX_SIZE
from graviton.core.names import check_name
from graviton.errors import GravitonError, IntegrityError, InvalidInput, StorageFull, Unavailable
from graviton.ports.kv import Durability, KeyValueStore, Transaction
from graviton.ports.metrics import MetricKeys, MetricsRegistry, NoMetrics

__all__ = ["CHANGE_LIFETIME_SECONDS", "DEFAULT_LIFETIME_SECONDS", "Quota", "QuotaLimits", "Reservation", "Usage"]

DEFAULT_LIFETIME_SECONDS = 86_400.0
"""As long as an unfinished upload is kept."""

CHANGE_LIFETIME_SECONDS = 600.0
"""Of what goes on inside one call, which gives signs of life: after a crash it counts for as long."""

MAX_BLOBS = 2**32 - 1
MAX_LIFETIME_SECONDS = 10 * 366 * 86_400.0
"""What the row of a reservation can say, and more than anybody needs."""

_PAGE = 500
"""Reservations looked at in one transaction: some milliseconds."""

_T = TypeVar("_T")


class Quota:
    """The limits of one store, over its metadata. Usable from several event loops."""

    def __init__(
        self,
        kv: KeyValueStore,
        limits: QuotaLimits,
        clock: Clock | None = None,
        metrics: MetricsRegistry | None = None,
    ) -> None:
        """`kv` holds the rows of the store's metadata (docs/formats/metadata.md) too; on PostgreSQL, shows them."""
        self.limits = limits
        self._kv = kv
        self._clock = clock or SystemClock()
        self._metrics = metrics or NoMetrics()
        self._durability = Durability.FULL
        """Of the next transaction. The first one waits for the disk: some kinds of metadata look at every other whether
        the namespaces are there, until it is certain that they stay."""
        self._questions: InTurns[_Question[Any]] = InTurns(self._answer_all)

    async def reserve(
        self,
        holder: str,
        size: int,
        *,
        domain: str = "",
        lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS,
        id: str | None = None,
        blobs: int = 1,
        keys: Sequence[BlobKey] = (),
        instead_of: Sequence[str] = (),
    ) -> Reservation:
        """Room for `blobs` blobs of together `size` bytes, until it is settled, released, or not heard of for
        `lifetime_seconds`. `keys` are promised at once, where they are known, and those that are there already need no
        room. The reservations `instead_of` hand theirs on, and end with that. Raises StorageFull naming the limit, its
        size and what is used; AlreadyExists for an `id` that is in use; InvalidInput. Nothing changes then."""
        check_name(domain, "domain")
        check_name(holder, "holder")
        if not (0 <= size <= MAX_SIZE and 0 <= blobs <= MAX_BLOBS and 0 < lifetime_seconds <= MAX_LIFETIME_SECONDS):
            raise InvalidInput(f"{blobs} blobs of {size} bytes cannot be reserved for {lifetime_seconds} s")
        made = Reservation(self, id if id is not None else secrets.token_hex(16), holder, domain)
        lifetime_ns = int(lifetime_seconds * 1e9)
        expires = self._clock.now_ns() + lifetime_ns
        row = ReservationRow(holder, domain, Amount(size, blobs), lifetime_ns, expires, tuple(keys))
        await self._admitted(lambda books: books.hand_on(instead_of, made.id, row))
        return made

    async def resume(self, id: str) -> Reservation:
        """A reservation that was made before, perhaps by another process. Raises NotFound."""
        row = await self._kv.read(lambda tx: load(tx, id))
        return Reservation(self, id, row.holder, row.domain)

    async def freed(self, holder: str, key: BlobKey, domain: str = "") -> None:
        """After a delete, undelete or put of a blob: let the books say what the store says. Idempotent, and of no
        effect where they say it already."""
        await self._change(lambda books: books.settle(holder, domain, [key]))

    async def changing(self, holder: str, key: BlobKey, domain: str = "", *, comes_back: bool = False) -> Reservation:
        """Before the blob is deleted, or is undeleted (`comes_back`): what is told so can be settled also if this
        process ends in between. Settle or release it afterwards. Raises StorageFull if there is no room for it to come
        back."""
        size, blobs = (key.size, 1) if comes_back else (0, 0)
        return await self.reserve(
            holder, size, blobs=blobs, keys=[key], domain=domain, lifetime_seconds=CHANGE_LIFETIME_SECONDS
        )

    async def largest_possible(
        self, holder: str, domain: str = "", claimed: BlobKey | None = None, own: Amount = Amount(0, 0)
    ) -> int:
        """How many bytes a blob has at most that can be put now: there is room for it, where `own` is reserved already,
        or it may be there; -1 if there is no such blob. `claimed` is which one it is said to be."""
        return await self._kv.read(lambda tx: largest_possible(tx, self.limits, holder, domain, claimed, own))

    async def usage(self, holder: str | None = None) -> Usage:
        """What a holder uses, as far as it came by way of a quota; or what is used in all, whoever put it."""
        found = await self._kv.read(lambda tx: usage(tx, holder))
        if holder is None:
            self._report(found)
        return found

    async def recover(self) -> int:
        """Close the reservations whose time is past: what was promised and is held is entered, everything else is free
        again. How many there were. Whoever finds no room does that by himself first."""
        count, after, is_first = 0, None, True
        while is_first or after is not None:
            is_first, now_ns = False, self._clock.now_ns()
            due, after = await self._kv.read(
                lambda tx, now_ns=now_ns, after=after: expired(tx, now_ns, after, _PAGE)  # type: ignore[misc]
            )
            for id in due:
                try:
                    count += await self._change(partial(Books.close, id=id, now_ns=now_ns))
                except IntegrityError:
                    continue  # it goes on counting; verification and every reader tell of the blob's damaged row
        return count

    async def _admitted(self, fn: Callable[[Books], Usage | None]) -> None:
        """Run what may find no room: again, if some was left behind by somebody who has ended without a word."""
        while True:
            try:
                self._report(await self._change(fn))
                return
            except StorageFull:
                if not await self.recover():
                    raise

    async def _change(self, fn: Callable[[Books], _T]) -> _T:
        """Change the books: together with others of this process that want to at the same moment, because all change
        the same sums."""
        question = _Question(fn)
        await self._questions.run(question)
        return question.answer()

    async def _answer_all(self, questions: list[_Question[Any]]) -> None:
        try:
            await self._answer(questions)
        except Unavailable as error:
            for question in questions:  # each alone would wait as long
                question.fail(own_copy(error))
        except BaseException as error:  # noqa: BLE001 - told to whoever asked
            if len(questions) == 1:
                questions[0].fail(error)
                return
            for question in questions:
                await self._answer_all([question])

    async def _answer(self, questions: list[_Question[Any]]) -> None:
        def run(tx: Transaction) -> None:
            books = Books(tx, self.limits)
            for question in questions:
                question.ask(books)
            books.write()

        await self._kv.transact(run, self._durability)
        self._durability = Durability.RELAXED

    def _report(self, used: Usage | None) -> None:
        if used is None:
            return
        for name, held, reserved, limit in (
            (MetricKeys.QUOTA_BYTES, used.bytes, used.reserved_bytes, self.limits.bytes),
            (MetricKeys.QUOTA_BLOBS, used.blobs, used.reserved_blobs, self.limits.blobs),
        ):
            self._metrics.gauge(name, held, kind="used")
            self._metrics.gauge(name, reserved, kind="reserved")
            if limit is not None:
                self._metrics.gauge(name, limit, kind="limit")


class _Question(Generic[_T]):
    """One change of the books, and what came of it."""

    __slots__ = ("_error", "_fn", "_result")

    def __init__(self, fn: Callable[[Books], _T]) -> None:
        self._fn = fn
        self._result: _T | None = None
        self._error: BaseException | None = None

    def ask(self, books: Books) -> None:
        """Try it. What `Books` raises concerns nobody else, because nothing has changed then."""
        self._result = self._error = None
        try:
            self._result = self._fn(books)
        except GravitonError as error:
            self._error = error

    def fail(self, error: BaseException) -> None:
        self._error = error

    def answer(self) -> _T:
        """The result. Raises the error."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame
        return self._result  # type: ignore[return-value]


class Reservation:
    """Room that was promised to one put or upload. Every call is a sign of life; NotFound says that it was too late,
    and somebody else has the room."""

    __slots__ = ("_quota", "domain", "holder", "id")

    def __init__(self, quota: Quota, id: str, holder: str, domain: str) -> None:
        self._quota = quota
        self.id = id
        self.holder = holder
        self.domain = domain

    async def grow(self, total_bytes: int) -> None:
        """Have room for `total_bytes`; never shrinks. Raises StorageFull, whereupon it is as large as before, and
        NotFound."""
        await self._change(
            lambda row: row._replace(amount=row.amount._replace(bytes=max(row.amount.bytes, total_bytes)))
        )

    async def promise(self, *keys: BlobKey) -> None:
        """Say which blob it will be (or which), right before its commit: the reservation is exactly as large from now
        on. Raises StorageFull, NotFound; then the commit must not be done."""
        amount = Amount(sum(key.size for key in keys), len(keys))
        await self._change(lambda row: row._replace(amount=amount, keys=keys))

    async def settle(self, key: BlobKey | None = None) -> None:
        """The blob (of which was promised, if it is not named) is committed: enter what is held, and give back the
        rest. Idempotent. Losing it is as good as not having called it: it comes out when its time is past."""
        keys = [] if key is None else [key]

        def run(books: Books) -> None:
            if not books.close(self.id, keys):
                books.settle(self.holder, self.domain, keys)

        await self._quota._change(run)

    async def release(self) -> None:
        """Nothing came of it, as far as is known: give back what is not held after all. Idempotent."""
        await self.settle()

    async def _change(self, update: Callable[[ReservationRow], ReservationRow]) -> None:
        quota = self._quota

        def alive(row: ReservationRow) -> ReservationRow:
            return update(row)._replace(expires_at_ns=quota._clock.now_ns() + row.lifetime_ns)

        await quota._admitted(lambda books: books.change(self.id, alive))
