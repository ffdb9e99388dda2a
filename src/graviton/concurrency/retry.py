"""How long, and how often, something that failed for a passing reason is tried again.

Waiting times double up to a cap and are drawn at random below it ("full jitter"): clients that failed together do not
come back together. One total budget bounds them all.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from graviton.core.clock import Clock

__all__ = ["RetryPolicy"]


class RetryPolicy(NamedTuple):
    """When to try again; a value, shared by everybody."""

    total_seconds: float = 30.0
    """From the first failure on, or from the moment that `waits` is given; 0 for never."""
    first_seconds: float = 0.01
    """Upper bound of the first wait."""
    longest_seconds: float = 2.0
    """Upper bound of every wait."""

    def waits(self, clock: Clock, random_: random.Random | None = None, began: float | None = None) -> Iterator[float]:
        """Seconds to wait before each new try, until the budget is used up. The clock runs from `began`, or from the
        first one."""
        draw = random_ or random
        bound = self.first_seconds
        while True:
            now = clock.monotonic()
            began = now if began is None else began
            left = began + self.total_seconds - now
            if left <= 0:
                return
            yield min(draw.uniform(0, bound), left)
            bound = min(bound * 2, self.longest_seconds)
