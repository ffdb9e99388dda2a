"""Where the bytes of a get go in their order: pipes, sockets, terminals, files open for appending."""

from __future__ import annotations

import errno
import os
import select
import stat

from graviton.concurrency.executors import POLL_SECONDS, WorkerPool, in_thread

__all__ = ["Sink"]


class Sink:
    """A descriptor that takes bytes in order, on a thread of its own. Cancelling ends the wait for a reader at the
    other end who stopped reading; what was written by then stays."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waits = not stat.S_ISREG(os.fstat(fd).st_mode)
        self._nowait = True
        self._stopped = False
        self._thread = WorkerPool(1, "sink")

    async def write(self, data: memoryview) -> None:
        """Write all of `data`. Raises OSError."""
        await in_thread(self._thread, self._write, data, interrupt=self._stop)

    def close(self) -> None:
        """End the thread; the descriptor stays open."""
        self._thread.shutdown()

    def _stop(self) -> None:
        self._stopped = True

    def _write(self, data: memoryview) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        while data and not self._stopped:
            try:
                data = data[self._some(data) :]
            except BlockingIOError:
                poll.poll(POLL_SECONDS * 1000)

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
