"""Steps two actors through every order of their transactions' statements.

Each actor runs in a thread of its own and stops before every transaction or read, before every statement inside a
transaction, and before its commit. The scheduler lets one of them go on at a time, waits until it has stopped again,
and so decides the whole order; `explore` enumerates the orders. While one is inside a write transaction the other may
*try* to begin its own: it must be kept waiting by the store (seen because it stops at no statement) and come in as
soon as the first is through. While it waits it changes nothing, so a schedule has one such attempt at most, at every
place in turn: before any statement of any transaction of the one, with any transaction of the other; how the earlier
transactions were ordered is varied there only as far as `switches` allows. Without attempts every order of
transactions is taken.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

from graviton.ports.kv import Durability, KeyValueStore, ReadTransaction, Transaction

_T = TypeVar("_T")

PATIENCE_SECONDS = 20.0
"""Nothing here takes a tenth of a second; a test that waits longer has found a deadlock."""

BEGIN, INSIDE, READ, DONE = "begin", "inside", "read", "done"


class Actor:
    """One session: a script in a thread, stopped at every step."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.where = ""
        """Where it has stopped: BEGIN, INSIDE, READ or DONE; empty while it runs."""
        self.holds_lock = False
        """It is inside a write transaction, from its first stop in there until the store said that it is over."""
        self.error: BaseException | None = None
        self._changed = threading.Condition()
        self._go = threading.Semaphore(0)

    def start(self, script: Callable[[], Awaitable[None]]) -> None:
        def run() -> None:
            async def main() -> None:
                await script()

            try:
                asyncio.run(main())
            except BaseException as error:  # noqa: BLE001 - handed to the test
                self.error = error
            self._set(DONE)

        self._thread = threading.Thread(target=run, name=self.name, daemon=True)
        self._thread.start()

    def stop_at(self, where: str) -> None:
        """Called by the script: say where it is and wait to be told to go on."""
        if where == INSIDE:
            self.holds_lock = True
        self._set(where)
        assert self._go.acquire(timeout=PATIENCE_SECONDS), "the scheduler forgot an actor"

    def _set(self, where: str) -> None:
        with self._changed:
            self.where = where
            self._changed.notify_all()

    def resume(self) -> None:
        """Called by the scheduler: go on."""
        self.where = ""
        self._go.release()

    def wait(self) -> str:
        """Called by the scheduler: where it stops next."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.where, PATIENCE_SECONDS), f"{self.name} never stopped"
            return self.where

    def join(self) -> None:
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()


class SteppedStore(KeyValueStore):
    """The actor's view of a store: the same, with stops."""

    def __init__(self, inner: KeyValueStore, actor: Actor) -> None:
        self._inner = inner
        self._actor = actor

    async def transact(self, fn: Callable[[Transaction], _T], durability: Durability = Durability.FULL) -> _T:
        self._actor.stop_at(BEGIN)
        try:
            return await self._inner.transact(lambda tx: self._stepped(fn, tx), durability)
        finally:
            self._actor.holds_lock = False

    def _stepped(self, fn: Callable[[Transaction], _T], tx: Transaction) -> _T:
        try:
            return fn(_SteppedTransaction(tx, self._actor))  # type: ignore[arg-type]
        finally:
            self._actor.stop_at(INSIDE)  # before the commit, or the roll-back

    async def read(self, fn: Callable[[ReadTransaction], _T]) -> _T:
        self._actor.stop_at(READ)
        return await self._inner.read(fn)

    async def namespaces(self) -> list[str]:
        return await self._inner.namespaces()


class _SteppedTransaction:
    """Stops before every statement."""

    def __init__(self, tx: Transaction, actor: Actor) -> None:
        self._tx = tx
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._tx, name)

        def stepped(*args: Any, **kwargs: Any) -> Any:
            self._actor.stop_at(INSIDE)
            result = method(*args, **kwargs)
            return iter(list(result)) if name == "scan" else result

        return stepped


class Scheduler:
    """Lets two started actors run to their ends. At the n-th decision it takes option `prefix[n]`, later the first."""

    def __init__(self, actors: Sequence[Actor], prefix: Sequence[int], switches: int) -> None:
        self._actors = actors
        self._prefix = prefix
        self._switches = switches
        """Turns given to the other one before an attempt, at most."""
        self._current = actors[0]
        self._waiting: Actor | None = None
        self._attempted = False
        self.decisions: list[tuple[int, int]] = []
        """For every decision the option taken and how many there were."""

    def run(self) -> list[tuple[int, int]]:
        for actor in self._actors:
            actor.wait()
        while options := self._options():
            self._resume(options[self._decide(len(options))])
            self._watch_waiting()
        return self.decisions

    def _other(self, actor: Actor) -> Actor:
        return self._actors[1] if actor is self._actors[0] else self._actors[0]

    def _options(self) -> list[Actor]:
        """Who may go on, the one that went on last first."""
        first, second = self._current, self._other(self._current)
        able = [
            actor for actor in (first, second) if actor is not self._waiting and actor.where in (BEGIN, INSIDE, READ)
        ]
        if len(able) == 2 and (first.holds_lock or second.holds_lock):
            holder = first if first.holds_lock else second
            other = self._other(holder)
            # A snapshot taken now is the one from before the transaction: that order is taken anyway.
            if self._attempted or self._switches < 0 or other.where == READ:
                return [holder]
            return [holder, other]
        return able

    def _decide(self, options: int) -> int:
        if options == 1:
            return 0
        place = len(self.decisions)
        choice = self._prefix[place] if place < len(self._prefix) else 0
        assert choice < options, "the scripts did not do the same as in the run before"
        self.decisions.append((choice, options))
        return choice

    def _resume(self, chosen: Actor) -> None:
        if chosen is not self._current:
            self._switches -= 1
        if self._other(chosen).holds_lock:
            self._attempted, self._waiting = True, chosen
            chosen.resume()
        else:
            self._current = chosen
            chosen.resume()
            chosen.wait()

    def _watch_waiting(self) -> None:
        waiting = self._waiting
        if waiting is None:
            return
        if self._other(waiting).holds_lock:
            assert not waiting.where, "two writers at once"
        else:
            waiting.wait()  # the lock is free, so it comes in by itself
            self._current, self._waiting = waiting, None


def explore(run: Callable[[Sequence[int]], list[tuple[int, int]]]) -> Iterator[int]:
    """Call `run(prefix)` once for every schedule there is; yields the number of schedules so far."""
    prefix: list[int] | None = []
    count = 0
    while prefix is not None:
        decisions = run(prefix)
        count += 1
        yield count
        prefix = _next_prefix(decisions)


def _next_prefix(decisions: list[tuple[int, int]]) -> list[int] | None:
    """The first schedule after the one with these decisions, in order; None after the last."""
    while decisions:
        taken, options = decisions.pop()
        if taken + 1 < options:
            return [choice for choice, _ in decisions] + [taken + 1]
    return None
