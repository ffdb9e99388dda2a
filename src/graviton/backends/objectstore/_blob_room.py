"""Memory for the parts of one blob on its way in, within the budget of all streams."""

from __future__ import annotations

import asyncio

from graviton.constraints.budget import ByteBudget, Lease

__all__ = ["PartRoom"]


class PartRoom:
    """Room for parts of any size. It grows while the budget gives more at once; else a part waits until earlier ones
    are written. Only while none is held does it wait for other streams, as the budget asks."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._leases: list[Lease] = []
        self._used = 0
        self._given = asyncio.Event()

    async def take(self, size: int) -> None:
        """Make room for a part. Raises LimitExceeded if it is larger than puts may ever have."""
        while True:
            missing = size - (sum(lease.size for lease in self._leases) - self._used)
            if missing <= 0:
                break
            lease = self._budget.try_lease(missing, self._budget.for_puts)
            if lease is None and not self._used:
                self.release()
                lease = await self._budget.lease(size, self._budget.for_puts)
            if lease is not None:
                self._leases.append(lease)
            else:
                self._given.clear()
                await self._given.wait()
        self._used += size

    def give(self, size: int) -> None:
        """A part of that size is written."""
        self._used -= size
        self._given.set()

    def release(self) -> None:
        """Give all of it back. Idempotent."""
        while self._leases:
            self._leases.pop().release()
