"""Threads that may block: there calls run to their end on the thread that makes them.

A call of a port costs a thread hop (35 to 125 us) because an event loop must not wait for a disk. Whoever has a thread
of its own, whose event loop serves nothing but that one piece of work, says so here. Implementations that declare
`Capabilities.runs_in_place` then do without the hop; all others work there as everywhere.
"""

from __future__ import annotations

import threading

__all__ = ["declare_blocking_thread", "may_block"]


class _Thread(threading.local):
    may_block = False


_thread = _Thread()


def declare_blocking_thread() -> None:
    """Say, for good, that nobody waits for the event loop of the calling thread but its own work."""
    _thread.may_block = True


def may_block() -> bool:
    """Whether the calling thread was declared."""
    return _thread.may_block
