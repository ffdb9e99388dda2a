"""Pipes, sockets and terminals: who waits there for somebody else does so on a thread, as long as it is wanted."""

from __future__ import annotations

import errno
import os
import select
import stat
from functools import partial
from typing import Final

from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool

__all__ = ["Sink", "wait_readable"]

_POLL_MILLISECONDS: Final = 200
"""How long a wait may go on after nobody wants it any more."""


def wait_readable(fd: int, flag: CancelFlag) -> bool:
    """On a thread: wait until reading `fd` would not wait. False if nobody wants that any more."""
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    while not poll.poll(_POLL_MILLISECONDS):
        if flag.cancelled:
            return False
    return True


class Sink:
    """A descriptor that takes bytes in order, on a thread of its own. Cancelling ends the wait for a reader at the
    other end who stopped reading; what was written by then stays."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waits = not stat.S_ISREG(os.fstat(fd).st_mode)
        self._nowait = True
        self._thread = WorkerPool(1, "sink")

    async def write(self, data: bytes | memoryview) -> None:
        """Write all of `data`. Raises OSError."""
        await self._thread.run(partial(self._write, memoryview(data)))

    def close(self) -> None:
        """End the thread; the descriptor stays open."""
        self._thread.shutdown()

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _write(self, data: memoryview, flag: CancelFlag) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while data and not flag.cancelled:
            try:
                data = data[self._some(data) :]
            except BlockingIOError:
                poll.poll(_POLL_MILLISECONDS)

    def _some(self, data: memoryview) -> int:
        """Write what there is room for. Raises BlockingIOError where there is none."""
        if not self._waits:
            return os.write(self._fd, data)
        if self._nowait:
            try:
                return os.pwritev(self._fd, [data], -1, os.RWF_NOWAIT)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise
                self._nowait = False  # a kernel before 6.4, or a device that cannot
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(self._fd, data[: select.PIPE_BUF])  # so much never blocks a pipe that said it has room
