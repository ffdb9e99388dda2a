"""Blobs on their way in: counted while they stream, reserved before they are stored, promised before they are seen.

What is there already needs no room, and nobody knows that before its last byte. So a blob for which there is no room
goes on as long as it can be one that is there: it is no larger than what is, and none of its blocks is new. The promise
decides then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from graviton.concurrency.finishing import finish_anyway, until_done
from graviton.concurrency.pieces import Filler
from graviton.constraints.quota import CHANGE_LIFETIME_SECONDS, Quota, Reservation
from graviton.constraints.quota_rows import Amount
from graviton.core.attribute_values import SIZE
from graviton.core.keys import BlobKey
from graviton.core.limits import MAX_SIZE
from graviton.core.policies import BlobWritePlan
from graviton.errors import GravitonError, NotFound, StorageFull
from graviton.stores.limits.counted import Counted
from graviton.stores.limits.room import Pace, Room, check_size

__all__ = ["Arrival", "GroupArrival"]

_STEP_BYTES: Final = 64 * 1024 * 1024
"""Reserved at once where the size is not known: a transaction beside a tenth of a second's work."""

_BEAT_SECONDS: Final = CHANGE_LIFETIME_SECONDS / 4
"""Between two signs of life of a put, whose source may be silent for as long as it likes."""


class Arrival:
    """One blob. Within `async with`: what was promised is settled when that is left, whatever came of it."""

    def __init__(
        self,
        quota: Quota | None,
        pace: Pace | None,
        max_bytes: int | None,
        plan: BlobWritePlan,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._quota, self._pace, self._max_bytes = quota, pace, max_bytes
        self._holder, self._domain = plan.holder, plan.domain
        self._announced, self._claimed = _claims(plan)
        self._sleep = sleep
        self._reservation: Reservation | None = None
        self._reserved = 0
        self._total = 0
        self._heart: asyncio.Task[None] | None = None
        self._refused: StorageFull | None = None
        """There is no room for it, unless it is there already."""
        self._most = MAX_SIZE
        """Bytes that it may have then."""

    async def take(self, size: int) -> None:
        """All bytes at once, which are in memory. Raises LimitExceeded, StorageFull."""
        check_size(size, self._max_bytes)
        await self._have(size)
        if self._pace is not None:
            await self._pace.take(size)

    def counted(self, filler: Filler, announced: int | None = None) -> Filler:
        """`filler`, whose bytes are counted, and come no faster than they may. `announced` is how many whoever sends
        them says that they will be. It is believed where they are refused for it, and not for memory, of which
        somebody who sends nothing then would keep as much as he likes from others."""
        self._announced = max(self._announced, filler.size_hint or 0, announced or 0)
        return Counted(filler, self._begin, self._came, None if self._pace is None else self._pace.piece)

    async def _begin(self) -> None:
        check_size(self._announced, self._max_bytes)
        await self._have(self._announced)

    async def _came(self, count: int) -> None:
        self._total += count
        check_size(self._total, self._max_bytes)
        await self._have(self._total)
        if self._pace is not None:
            await self._pace.take(count)

    async def _have(self, size: int) -> None:
        """Have room for so many bytes; ahead of them, as far as there is room for that."""
        if self._quota is None:
            return
        if self._refused is None:
            try:
                await self._have_room(size)
            except StorageFull as error:
                self._refused = error
                own = Amount(self._reserved, 0 if self._reservation is None else 1)
                self._most = await self._quota.largest_possible(self._holder, self._domain, self._claimed, own)
        if self._refused is not None and size > self._most:
            raise self._refused

    async def _have_room(self, size: int) -> None:
        if self._reservation is None:
            await self._reserve(size)
            self._heart = asyncio.ensure_future(self._beat())
        elif size > self._reserved:
            try:
                await self._grow(size)
            except NotFound:  # we were stopped for longer than we had said, and somebody else has the room
                await self._reserve(size)

    async def _reserve(self, size: int, keys: Sequence[BlobKey] = ()) -> None:
        """Never abandoned half way: what nobody knows of could not be released."""

        async def reserve() -> None:
            assert self._quota is not None
            self._reservation = await self._quota.reserve(
                self._holder, size, domain=self._domain, keys=keys, lifetime_seconds=CHANGE_LIFETIME_SECONDS
            )
            self._reserved = size

        await finish_anyway(reserve())

    async def _grow(self, size: int) -> None:
        assert self._reservation is not None
        try:
            await self._reservation.grow(size + _STEP_BYTES)
            self._reserved = size + _STEP_BYTES
        except StorageFull:
            await self._reservation.grow(size)
            self._reserved = size

    async def _beat(self) -> None:
        """Give signs of life. One that cannot be given is not missed yet, and who finds out that it was too late is
        whoever needs the room."""
        while True:
            await self._sleep(_BEAT_SECONDS)
            try:
                if self._reservation is not None:
                    await self._reservation.grow(0)
            except GravitonError:
                continue

    def check_fresh(self) -> None:
        """See `Room`."""
        if self._refused is not None:
            raise self._refused

    async def promise(self, key: BlobKey) -> None:
        """See `Room`."""
        if self._quota is None:
            return
        try:
            if self._reservation is not None:
                await self._reservation.promise(key)
                return
        except NotFound:
            pass
        await self._reserve(key.size, [key])

    async def __aenter__(self) -> Arrival:
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._reservation is not None:
            await finish_anyway(self._end(self._reservation))

    async def _end(self, reservation: Reservation) -> None:
        if self._heart is not None:
            self._heart.cancel()
            await until_done(self._heart)
        await _settle([reservation])


class GroupArrival:
    """Small blobs whose bytes are in memory, and whose keys are known before anything of them is stored."""

    def __init__(self, quota: Quota | None, max_bytes: int | None, domain: str) -> None:
        self._quota, self._max_bytes, self._domain = quota, max_bytes, domain
        self._reservations: dict[str, Reservation] = {}
        """By holder."""
        self._refused: dict[str, StorageFull] = {}
        """Holders for whose blobs there is no room, unless they are there already."""

    async def reserve(self, blobs: Sequence[tuple[str, int]]) -> None:
        """Have room for all of them, each given with its holder and size, before their turn comes. Where there is none
        nobody is refused yet: it is asked again with their keys, before anything is stored. Raises LimitExceeded."""
        sizes: dict[str, list[int]] = {}
        for holder, size in blobs:
            check_size(size, self._max_bytes)
            sizes.setdefault(holder, []).append(size)
        for holder, own in sizes.items():
            try:
                await finish_anyway(self._have(holder, sum(own), len(own), []))
            except StorageFull as error:
                self._refused[holder] = error

    @property
    def has_no_room(self) -> bool:
        """Whether there was none for some of them, so that their keys decide."""
        return bool(self._refused)

    def alone(self, holder: str) -> Room:
        """For the only one of them, which streams."""
        return _Alone(self, holder, self._refused.get(holder))

    async def admit(self, blobs: Sequence[tuple[str, BlobKey]]) -> None:
        """These are they, each with its holder: they will be stored and committed next. As `reserve`."""
        by_holder: dict[str, dict[BlobKey, None]] = {}
        for holder, key in blobs:
            check_size(key.size, self._max_bytes)
            by_holder.setdefault(holder, {})[key] = None
        for holder, keys in by_holder.items():
            await finish_anyway(self._have(holder, sum(key.size for key in keys), len(keys), list(keys)))

    async def _have(self, holder: str, size: int, blobs: int, keys: Sequence[BlobKey]) -> None:
        """Never abandoned half way, as in `Arrival`."""
        if self._quota is None:
            return
        reservation = self._reservations.get(holder)
        if reservation is not None:
            try:
                await reservation.promise(*keys)
                return
            except NotFound:
                pass
        self._reservations[holder] = await self._quota.reserve(
            holder, size, blobs=blobs, keys=keys, domain=self._domain, lifetime_seconds=CHANGE_LIFETIME_SECONDS
        )

    async def aclose(self) -> None:
        """Settle, whatever came of them. Idempotent."""
        reservations, self._reservations = self._reservations, {}
        if reservations:
            await finish_anyway(_settle(list(reservations.values())))

    async def __aenter__(self) -> GroupArrival:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


class _Alone:
    """A group of one blob, as a `Room`."""

    def __init__(self, group: GroupArrival, holder: str, refused: StorageFull | None) -> None:
        self._group, self._holder, self._refused = group, holder, refused

    def check_fresh(self) -> None:
        """See `Room`."""
        if self._refused is not None:
            raise self._refused

    async def promise(self, key: BlobKey) -> None:
        """See `Room`."""
        await self._group.admit([(self._holder, key)])


def _claims(plan: BlobWritePlan) -> tuple[int, BlobKey | None]:
    """How many bytes a blob is said to have, 0 if nobody says, and which one it is said to be."""
    said = plan.attributes.advertised.get(SIZE)
    if said is None or not isinstance(said.value, int):
        return 0, None
    digest = next(iter(plan.attributes.digests.values()), None)
    return said.value, None if digest is None else BlobKey(digest, said.value)


async def _settle(reservations: Sequence[Reservation]) -> None:
    """Best effort: by now there is a result, or an error to be told, and what was promised comes out when its time is
    past (docs/decisions/0050-quota.md)."""
    for reservation in reservations:
        try:
            await reservation.settle()
        except GravitonError:
            continue
