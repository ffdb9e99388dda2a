"""Blobs on their way in: counted while they stream, reserved before they are stored, promised before they are seen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from graviton.concurrency.finishing import finish_anyway, until_done
from graviton.concurrency.pieces import Filler
from graviton.constraints.quota import CHANGE_LIFETIME_SECONDS, Quota, Reservation
from graviton.core.keys import BlobKey
from graviton.errors import GravitonError, LimitExceeded, NotFound, StorageFull

__all__ = ["Arrival", "GroupArrival", "check_size"]

_STEP_BYTES: Final = 64 * 1024 * 1024
"""Reserved at once where the size is not known: a transaction beside a tenth of a second's work."""

_BEAT_SECONDS: Final = CHANGE_LIFETIME_SECONDS / 4
"""Between two signs of life of a put, whose source may be silent for as long as it likes."""


class Pace(Protocol):
    """Waits until bytes may come."""

    piece: int
    """How many to take at once."""

    async def take(self, count: int) -> None:
        """Wait for `count` of them."""
        ...


class Arrival:
    """One blob. Within `async with`: what was promised is settled when that is left, whatever came of it."""

    def __init__(
        self,
        quota: Quota | None,
        pace: Pace | None,
        max_bytes: int | None,
        holder: str,
        domain: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._quota, self._pace, self._max_bytes = quota, pace, max_bytes
        self._holder, self._domain = holder, domain
        self._sleep = sleep
        self._reservation: Reservation | None = None
        self._reserved = 0
        self._total = 0
        self._heart: asyncio.Task[None] | None = None

    async def take(self, size: int) -> None:
        """All bytes at once, which are in memory. Raises LimitExceeded, StorageFull."""
        check_size(size, self._max_bytes)
        await self._have(size)
        if self._pace is not None:
            await self._pace.take(size)

    def counted(self, filler: Filler) -> Filler:
        """`filler`, whose bytes are counted, and come no faster than they may."""
        return _Counted(filler, self._begin, self._came, None if self._pace is None else self._pace.piece)

    async def _begin(self, size_hint: int | None) -> None:
        check_size(size_hint or 0, self._max_bytes)
        await self._have(size_hint or 0)

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

    async def promise(self, key: BlobKey) -> None:
        """Every block is durable, and the blob becomes visible next. Raises StorageFull."""
        if self._reservation is None:
            return
        try:
            await self._reservation.promise(key)
        except NotFound:
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

    async def reserve(self, blobs: Sequence[tuple[str, int]]) -> None:
        """Have room for all of them, each given with its holder and size, before their turn comes. Raises
        LimitExceeded, StorageFull."""
        sizes: dict[str, list[int]] = {}
        for holder, size in blobs:
            check_size(size, self._max_bytes)
            sizes.setdefault(holder, []).append(size)
        for holder, own in sizes.items():
            await finish_anyway(self._have(holder, sum(own), len(own), []))

    async def promise(self, holder: str, key: BlobKey) -> None:
        """The only one of them is this."""
        await self.admit([(holder, key)])

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


async def _settle(reservations: Sequence[Reservation]) -> None:
    """Best effort: by now there is a result, or an error to be told, and what was promised comes out when its time is
    past (docs/decisions/0050-quota.md)."""
    for reservation in reservations:
        try:
            await reservation.settle()
        except GravitonError:
            continue


class _Counted:
    """A filler with a count of what it gives."""

    def __init__(
        self,
        filler: Filler,
        begin: Callable[[int | None], Awaitable[None]],
        came: Callable[[int], Awaitable[None]],
        piece: int | None,
    ) -> None:
        """`begin` is called before the first bytes, `came` after some came; `piece` is how many to read at once."""
        self._filler, self._begin, self._came, self._piece = filler, begin, came, piece
        self.size_hint = filler.size_hint
        self._has_begun = False

    async def fill(self, memory: memoryview) -> int:
        """See `Filler`."""
        if not self._has_begun:
            self._has_begun = True
            await self._begin(self.size_hint)
        piece = self._piece or len(memory)
        filled = 0
        while filled < len(memory):
            part = memory[filled : filled + piece]
            count = await self._filler.fill(part)
            filled += count
            if count:
                await self._came(count)
            if count < len(part):
                break
        return filled

    async def aclose(self) -> None:
        """See `Filler`."""
        await self._filler.aclose()


def check_size(size: int, max_bytes: int | None) -> None:
    """Raise LimitExceeded for a blob that is larger than one may be."""
    if max_bytes is not None and size > max_bytes:
        raise LimitExceeded(
            f"a blob has at most {max_bytes} bytes here",
            operation="put",
            hint="Put it in parts, or raise the limit of whoever takes it.",
        )
