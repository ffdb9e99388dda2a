"""Whether something that has threads may still be used: not after it was closed, nor in a child made by fork."""

from __future__ import annotations

import os

from graviton.errors import Retry, Unavailable

__all__ = ["Lifetime"]

_HINT = "Open the store again in the child process."


class Lifetime:
    """Of one object, from its making to its end; threads may ask without a lock."""

    __slots__ = ("_hint", "_operation", "_pid", "_subject", "_what", "is_closed")

    def __init__(self, what: str, operation: str, *, subject: str = "", fork_hint: str = _HINT) -> None:
        """`what` is its name in messages; `fork_hint` says what to do in a child."""
        self._what, self._operation = what, operation
        self._subject, self._hint = subject, fork_hint
        self._pid = os.getpid()
        self.is_closed = False

    def check(self) -> None:
        """Raise Unavailable if it must not be used."""
        if self.is_closed:
            raise Unavailable(f"this {self._what} is closed", operation=self._operation, retry=Retry.PERMANENT)
        if not self.is_here:
            raise Unavailable(
                f"this {self._what} was opened before a fork",
                operation=self._operation,
                subject=self._subject,
                hint=self._hint,
                retry=Retry.PERMANENT,
            )

    @property
    def is_here(self) -> bool:
        """Whether its threads are of this process."""
        return self._pid == os.getpid()
