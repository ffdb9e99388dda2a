"""Where log lines go: a file descriptor that may be full, slow or closed, which never stops who logs.

Lines wait in bounded memory for a thread that writes them. When a target takes none any more (a pipe that nobody
reads, a disk that is full), lines are lost, counted by reason, and their number is told in the log as soon as it takes
some again.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from graviton.concurrency.threads import started

__all__ = ["LogTarget"]

_MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
"""Some ten thousand lines: seconds of a busy server."""

_BATCH_BYTES: Final = 64 * 1024
"""Written at once: what a pipe holds."""

_PATIENCE_MS: Final = 1000
"""How long to wait for a target that is full and does not block."""


class LogTarget:
    """Writes lines to a descriptor, which stays its owner's. From any thread; not after a fork."""

    def __init__(
        self,
        descriptor: int,
        lost: Callable[[str, int], None],
        notice: Callable[[int], bytes],
        max_waiting_bytes: int = _MAX_WAITING_BYTES,
    ) -> None:
        """`lost` is told the reason and number of lines that were lost; `notice` makes the line about so many. Raises
        Unavailable if the system gives no thread."""
        self._descriptor = descriptor
        self._lost, self._notice = lost, notice
        self._max_waiting = max_waiting_bytes
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._untold = 0
        self._is_closed = False
        self._thread = started(self._work, "graviton-log")

    def put(self, line: bytes) -> None:
        """Have `line`, which ends in a newline, written soon. Never waits for the target, never raises."""
        with self._changed:
            if not self._is_closed and self._waiting_bytes + len(line) <= self._max_waiting:
                self._waiting.append(line)
                self._waiting_bytes += len(line)
                if len(self._waiting) == 1:
                    self._changed.notify()
                return
            self._untold += 1
        self._lost("full", 1)

    def close(self, seconds: float = 2.0) -> None:
        """Write what waits, for at most so long. Idempotent."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        is_torn, untold = False, 0
        while (lines := self._next()) is not None:
            with self._changed:
                untold, self._untold = untold + self._untold, 0
            # Half a line may be there already: what comes must not hang on to it.
            head = (b"\n" if is_torn else b"") + (self._notice(untold) if untold else b"")
            batch = head + lines
            written = self._write(batch)
            if written >= len(head):
                untold = 0
            if written < len(batch):
                count = lines.count(b"\n", max(0, written - len(head)))
                untold += count
                self._lost("failed", count)
            if written:
                is_torn = batch[written - 1 : written] != b"\n"

    def _next(self) -> bytes | None:
        """The next lines; None at the end."""
        with self._changed:
            while not self._waiting:
                if self._is_closed:
                    return None
                self._changed.wait()
            lines: list[bytes] = []
            size = 0
            while self._waiting and size < _BATCH_BYTES:
                lines.append(self._waiting.popleft())
                size += len(lines[-1])
            self._waiting_bytes -= size
            return b"".join(lines)

    def _write(self, data: bytes) -> int:
        """Bytes that were written."""
        view = memoryview(data)
        done = 0
        while done < len(data):
            try:
                done += os.write(self._descriptor, view[done:])
            except BlockingIOError:  # somebody made it so for all who share it
                if not self._has_room():
                    break
            except OSError:
                break
        return done

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(_PATIENCE_MS))
