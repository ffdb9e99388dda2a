"""One thread that runs calls in groups: those that wait at the same moment come together, and may share one commit.

A thread that may block (blocking.py) runs its call where it is, in its turn.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeVar

from graviton.concurrency.calls import Call, deliver
from graviton.concurrency.threads import started
from graviton.errors import Retry, Unavailable

__all__ = ["GroupThread", "GroupWork"]

_C = TypeVar("_C", bound=Call[Any])


class GroupWork(Protocol[_C]):
    """What is done with the calls; by one thread at a time, not always the same."""

    def run(self, calls: list[_C]) -> None:
        """Give each call its result or its error. Raises nothing."""
        ...

    def is_care_due(self) -> bool:
        """Whether `care` has something to do."""
        ...

    def care(self, has_run: bool) -> None:
        """Look after what the calls worked on, between groups, when the results are on their way; `has_run`: right
        after one. Raises nothing."""
        ...

    def in_use(self) -> AbstractContextManager[None]:
        """Around all that the thread does."""
        ...

    def close(self) -> None:
        """Give everything back; nothing is run any more."""
        ...


class _Look:
    """Asks the thread for `GroupWork.care`."""


_LOOK: Final = _Look()


class GroupThread(Generic[_C]):
    """Runs groups of calls one after the other; the thread begins with the first."""

    def __init__(self, work: GroupWork[_C], limit: int, name: str, operation: str) -> None:
        """At most `limit` calls are a group; `operation` names what they do in errors."""
        self._work = work
        self._limit = limit
        self._name = name
        self._operation = operation
        self._queue: SimpleQueue[_C | _Look | None] = SimpleQueue()
        """None ends the thread."""
        self._thread: threading.Thread | None = None
        self._begun = threading.Event()
        self._turn = threading.Lock()
        """Held by the thread that works."""
        self._is_closed = False
        self._is_asked_to_look = False

    def submit(self, call: _C) -> None:
        """Queue a call. The caller makes sure that two threads do not do this at once. Raises Unavailable."""
        self.start()
        self._queue.put(call)

    def start(self) -> None:
        """Begin the thread, which has what is worked on in its care. As `submit`."""
        if self._thread is None:
            self._thread = started(self._serve, self._name)

    def run(self, call: _C) -> None:
        """Run a call on this thread, which may block, and give it its outcome. After `start`. Raises Unavailable after
        `stop`."""
        self._begun.wait()
        with self._turn:
            if self._is_closed:
                raise Unavailable("this metadata store is closed", operation=self._operation, retry=Retry.PERMANENT)
            self._work.run([call])
            if not self._is_asked_to_look and self._work.is_care_due():
                self._is_asked_to_look = True
                self._queue.put(_LOOK)

    def stop(self) -> threading.Thread | None:
        """Let the calls that were accepted finish, then close; the thread to wait for, if any."""
        self._queue.put(None)
        thread, self._thread = self._thread, None
        return thread

    def _serve(self) -> None:
        with self._work.in_use():
            self._begun.set()
            try:
                while self._run_next():
                    pass
            finally:
                with self._turn:
                    self._is_closed = True
                    self._work.close()

    def _run_next(self) -> bool:
        jobs: list[_C | _Look | None] = [self._queue.get()]
        while jobs[-1] is not None and len(jobs) < self._limit:
            try:
                jobs.append(self._queue.get_nowait())
            except Empty:
                break
        calls = [job for job in jobs if job is not None and not isinstance(job, _Look)]
        begun = [call for call in calls if call.take()]  # the others were cancelled while they waited
        with self._turn:
            if begun:
                self._work.run(begun)
                deliver(begun)
            self._work.care(has_run=bool(begun))
            self._is_asked_to_look = False
        return jobs[-1] is not None
