"""Connections on which nothing happens, and the files that a server may have open.

The server below bounds how many connections there are, and drops those whose request head takes too long. But it
begins to count with the first bytes of HTTP: somebody who connects and says nothing, or stops within a TLS handshake,
keeps his place for as long as he likes, and a thousand of him keep everybody else out. So the sockets of this process
are looked at now and then, and what the kernel knows of each: when the last byte went which way.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import struct
import sys
from collections.abc import Callable, Collection
from contextlib import closing
from typing import Final, NamedTuple

from graviton.concurrency.executors import in_own_thread
from graviton.errors import GravitonError

__all__ = ["close_idle", "connections_at_once", "keep_closing"]

_log = logging.getLogger("graviton.server")

SILENT_MS: Final = 10_000
"""Who has not said a word by then has nothing to say; as long as a head may take."""

IDLE_MS: Final = 120_000
"""Between two requests of HTTP/2, or within a handshake."""

LOOK_SECONDS: Final = 2.5
"""Between two looks: some milliseconds of work with a thousand connections."""

MOST_CONNECTIONS: Final = 4096
"""At once. Each costs some 10 KB."""

_MOST_FILES: Final = 65_536

_INFO: Final = struct.Struct("8B24I4Q")
"""The beginning of `struct tcp_info` in linux/tcp.h, as it has been since Linux 4.1; it only grows at its end."""

_ESTABLISHED: Final = 1


class _Quiet(NamedTuple):
    """What the kernel knows of a connection."""

    state: int
    sent_ms: int
    """Since the last byte went out."""
    received_ms: int
    """Since the last byte came in, or the connection began."""
    received: int
    """Bytes, in all."""

    @property
    def is_over(self) -> bool:
        """Whether nobody is to be waited for any more."""
        if self.state != _ESTABLISHED:
            return False
        if self.received == 0:
            return self.received_ms >= SILENT_MS
        return min(self.sent_ms, self.received_ms) >= IDLE_MS


def _quiet(connection: socket.socket) -> _Quiet:
    raw = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    fields = _INFO.unpack(raw.ljust(_INFO.size, b"\0"))
    return _Quiet(fields[0], fields[8 + 9], fields[8 + 11], fields[8 + 24 + 3])


def close_idle(port: int, busy: Collection[tuple[str, str]] = ()) -> int:
    """Shut down the idle connections that this process has at its port; how many. Those of `busy` clients (address and
    port) wait for us, perhaps for a bucket that is away, and are left alone. Each is looked at through a descriptor of
    our own, so that nobody can close it, and open another file under its number, meanwhile."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with closing(socket.socket(fileno=os.dup(int(name)))) as connection:
                if connection.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                if connection.type != socket.SOCK_STREAM or connection.getsockname()[1] != port:
                    continue
                if _quiet(connection).is_over and _peer(connection) not in busy:
                    connection.shutdown(socket.SHUT_RDWR)
                    count += 1
        except OSError:
            continue  # it was closed meanwhile
    return count


def _peer(connection: socket.socket) -> tuple[str, str]:
    host, port = connection.getpeername()[:2]
    return host, str(port)


async def keep_closing(port: int, busy: Callable[[], Collection[tuple[str, str]]]) -> None:
    """Do so until cancelled; `busy` says whose requests are being answered. Where the kernel is not Linux nothing is
    known, and nothing is done."""
    if sys.platform != "linux":
        return
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            await in_own_thread(close_idle, port, busy())
        except (OSError, GravitonError) as error:  # no file or thread is to be had, which the next look may have
            _log.warning("could not look for idle connections: %s", error)


def connections_at_once() -> int:
    """How many connections this process may have: half of its files, the others being those of the store. Shells allow
    a process few files unless it asks for more, which this does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(MOST_CONNECTIONS, soft // 2))
