"""Every request of every operation on object storage x every fault of `tests/s3_faults.py`, once and for ever.

What counts: what was acknowledged is there, whole; nothing else was touched; only a true 404 is absence; a fault that
passes is survived; one that lasts becomes a typed error, soon, after a bounded number of tries, that shows no secret.
To add operations, write rows as `harness/s3_operations.py` has them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import NamedTuple

import pytest

from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.backends.objectstore import _s3_calls
from graviton.backends.objectstore.config import Credentials
from graviton.core.secret import Secret
from graviton.errors import Conflict, GravitonError, Retry, Unavailable
from graviton.ports.metrics import MetricKeys
from tests.faults.harness.bench import Reach
from tests.faults.harness.s3_object_operations import BLOB_OPERATIONS, OBJECT_OPERATIONS
from tests.faults.harness.s3_operations import BLOCK_OPERATIONS, Operation, bucket_at
from tests.s3_faults import FaultRow, faults_of
from tests.s3_proxy import Kind, S3Proxy

pytestmark = pytest.mark.s3

LAYERS = (BLOCK_OPERATIONS, OBJECT_OPERATIONS, BLOB_OPERATIONS)
OPERATIONS = BLOCK_OPERATIONS + OBJECT_OPERATIONS + BLOB_OPERATIONS

KNOWN_GAPS: Mapping[tuple[type[Operation], str], str] = {}
"""What does not hold yet, and why; it fails when it does."""

SESSION_TOKEN = "a-session-token-of-the-tests"
LONG_SECONDS = 120.0
"""For what is not meant to happen: no machine is so slow, and nobody waits for it."""
HANGING_SECONDS = (2.0, 8.0, 32.0, LONG_SECONDS)
"""A time-out that is meant to happen strikes other requests too, on a machine that is slow. Those are counted: a case
that fails after one is no case, and is done again with the next."""
EVER_RETRY_SECONDS = 0.2
WAITED_SECONDS = 4.0
"""Between the tries, of an operation and what tidies up after it; and for a driver to let go of memory."""
MAX_TRIES = 20
"""With waits that double from 50 ms, 0.2 s are used up long before."""
SIDE_BY_SIDE = 32
MANY_SIDE_BY_SIDE = 64
"""Where nearly all of the time they wait."""

_waits: ContextVar[list[float]] = ContextVar("waits")
"""Of a case: how long it takes says more of the machine than of what it does."""


class Case(NamedTuple):
    """One request of an operation, and what happens to it."""

    operation: type[Operation]
    number: int
    """Which of its requests, from 0."""
    fault: FaultRow

    @property
    def kind(self) -> Kind:
        return self.operation.requests[self.number]

    @property
    def nth(self) -> int:
        """Which of the requests of its kind, from 1."""
        return self.operation.requests[: self.number + 1].count(self.kind)

    @property
    def is_gap(self) -> bool:
        return (self.operation, self.fault.name) in KNOWN_GAPS

    def __str__(self) -> str:
        return f"{self.operation.__name__}, {self.kind.value} {self.nth}: {self.fault.name}"


def cases(operation: type[Operation], times: int | None, hangs: bool) -> Iterator[Case]:
    """Of an operation, with time-outs or with everything else. What happens for ever, only if it is tried again: the
    others are over with the first."""
    for number, kind in enumerate(operation.requests):
        for fault in faults_of(kind, where=lambda row: row.name not in operation.left_out and row.hangs is hangs):
            meant = operation.means(kind, fault)
            if times is not None or meant.passes:
                yield Case(operation, number, meant)


def all_cases(times: int | None, hangs: bool, reach: Reach) -> Iterator[Case]:
    """Of all operations. In the short form, what leaves no doubt, or lasts, happens at one request of each kind in each
    layer, at others for other faults; what a single operation must see through, at each."""
    for layer in LAYERS:
        alike: dict[tuple[Kind, str], list[Case]] = {}
        for operation in layer:
            for case in cases(operation, times, hangs):
                if reach.is_long or not (case.fault.is_plain or times is None):
                    yield case
                else:
                    alike.setdefault((case.kind, case.fault.name), []).append(case)
        yield from (found[turn % len(found)] for turn, found in enumerate(alike.values()))


class Outcome(NamedTuple):
    error: Exception | None
    happened: int
    seen: list[tuple[Kind, str]]
    waited: float


class Course(NamedTuple):
    """How often a fault happens, and what must come of it."""

    times: int | None
    """None: every time."""
    retry_seconds: float
    check: Callable[[Case, Outcome], None]


class DisturbedError(Exception):
    """A case failed, and a request that was not meant had had no answer in time."""


async def checked(case: Case, course: Course) -> None:
    """Do a case and check what became of it; again, with more time, as long as the machine was too slow for it."""
    *shorter, longest = HANGING_SECONDS if case.fault.hangs else (LONG_SECONDS,)
    for request_seconds in shorter:
        with suppress(DisturbedError):
            await _checked(case, course, request_seconds)
            return
    await _checked(case, course, longest)


async def _checked(case: Case, course: Course, request_seconds: float) -> None:
    """Do it, look at what is there afterwards, and compare. Raises DisturbedError, but not when there was all time."""
    behind = case.operation.server()
    settings = {"prefix": f"run-{secrets.token_hex(6)}/blocks", "connect_seconds": LONG_SECONDS}
    straight = behind.config(bucket_at(behind), request_seconds=LONG_SECONDS, retry_seconds=LONG_SECONDS, **settings)
    operation = case.operation()
    operation.metrics = metrics = InMemoryMetrics()
    await operation.prepare(straight)
    async with S3Proxy(behind) as proxy:
        operation.seen = proxy.seen
        if case.kind is Kind.LIST:
            proxy.page_size = 2
        happened = proxy.plan(case.kind, case.fault.do, first=case.nth, times=course.times)
        token = Secret(SESSION_TOKEN) if behind.takes_tokens else None
        keys = Credentials(behind.access_key, Secret(behind.secret_key), token)
        settings |= {"request_seconds": request_seconds, "retry_seconds": course.retry_seconds}
        broken = proxy.server.config(straight.bucket, credentials=keys, **settings)
        try:
            error, waited = await _error_of(operation.call(broken))
            got = Outcome(error, happened(), [(one.kind, one.fault) for one in proxy.seen], waited)
            await operation.check(straight, error is None)
            course.check(case, got)
        except Exception as failure:
            if request_seconds < LONG_SECONDS and _unanswered(metrics) > happened():
                raise DisturbedError from failure
            raise


async def _error_of(call: Awaitable[None]) -> tuple[GravitonError | None, float]:
    """What it raises, and for how many seconds it waited on the way."""
    waits: list[float] = []
    _waits.set(waits)
    try:
        await call
    except GravitonError as error:
        return error, sum(waits)
    return None, sum(waits)


def _unanswered(metrics: InMemoryMetrics) -> int:
    """How many tries ended without an answer."""
    failures = (one for one in metrics.snapshot().counters.items() if one[0].name == MetricKeys.BACKEND_FAILURES)
    return sum(int(count) for series, count in failures if ("code", Unavailable.code) in series.labels)


async def together(chosen: Iterable[Case], course: Course, at_once: int) -> None:
    """Cases side by side: most of the time they wait. Every one that fails is told."""
    turn = asyncio.Semaphore(at_once)
    failures: list[str] = []

    async def run(case: Case) -> None:
        async with turn:
            try:
                await checked(case, course)
            except Exception:  # noqa: BLE001 - told with the others
                if not case.is_gap:
                    failures.append(f"--- {case}\n{traceback.format_exc()}")
            else:
                if case.is_gap:
                    failures.append(f"--- {case}: works, strike it off the list of gaps")

    await asyncio.gather(*(run(case) for case in chosen))
    assert failures == [], f"{len(failures)} cases\n" + "\n".join(failures)


def _told(error: BaseException) -> str:
    """Everything anybody could print of an error."""
    lines = traceback.format_exception(error)
    seen: BaseException | None = error
    while seen is not None:
        lines += [repr(seen), str(seen), repr(seen.args), repr(vars(seen))]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(lines)


def check_error(case: Case, got: Outcome) -> None:
    error = got.error
    assert isinstance(error, GravitonError)
    assert case.fault.kind is not None
    assert type(error) is case.fault.kind, f"{type(error).__name__}: {error}"
    final = Retry.TEMPORARY if isinstance(error, Conflict) else Retry.PERMANENT  # who begins again may succeed
    assert error.retry is (Retry.EXHAUSTED if case.fault.passes else final)
    assert error.operation
    assert error.hint or not error.message.startswith("no answer")
    if case.kind not in (Kind.HEAD, Kind.HEAD_BUCKET):  # it has no body to say so
        assert case.fault.says in f"{error.message} {error.hint}"
    told = _told(error)
    assert SESSION_TOKEN not in told, "a secret is shown"
    assert case.operation.server().secret_key not in told


def check_once(case: Case, got: Outcome) -> None:
    assert got.happened == 1, got.seen
    if case.fault.kind is None or case.fault.passes:
        assert got.error is None, f"{got.error} {got.seen}"
    else:
        check_error(case, got)  # a second try would have succeeded


def check_for_ever(case: Case, got: Outcome) -> None:
    assert got.waited < WAITED_SECONDS
    assert 1 <= got.happened <= MAX_TRIES, got.seen
    if case.fault.kind is None:
        assert got.error is None, got.error
    else:
        check_error(case, got)


ONCE = Course(1, LONG_SECONDS, check_once)
FOR_EVER = Course(None, EVER_RETRY_SECONDS, check_for_ever)


@pytest.fixture(autouse=True)
def _time_that_a_machine_takes_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are written down for the case that they belong to, and what tidies up has time."""
    sleep = asyncio.sleep

    async def counted(seconds: float, result: object = None) -> object:
        if (waits := _waits.get(None)) is not None:
            waits.append(seconds)
        return await sleep(seconds, result)

    monkeypatch.setattr(asyncio, "sleep", counted)
    monkeypatch.setattr(_s3_calls, "_CLEANUP_SECONDS", LONG_SECONDS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
async def test_fault_that_happens_once(
    operation: type[Operation], reach: Reach, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = [case for case in all_cases(ONCE.times, False, reach) if case.operation is operation]
    with caplog.at_level(logging.INFO):
        await together(chosen, ONCE, SIDE_BY_SIDE)
    assert SESSION_TOKEN not in caplog.text


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
async def test_fault_that_lasts(operation: type[Operation], reach: Reach, caplog: pytest.LogCaptureFixture) -> None:
    chosen = [case for case in all_cases(FOR_EVER.times, False, reach) if case.operation is operation]
    with caplog.at_level(logging.INFO):
        await together(chosen, FOR_EVER, SIDE_BY_SIDE)
    assert SESSION_TOKEN not in caplog.text


@pytest.mark.parametrize("course", [ONCE, FOR_EVER], ids=["once", "for ever"])
async def test_time_out(course: Course, reach: Reach, caplog: pytest.LogCaptureFixture) -> None:
    """Of all operations together: what takes long is to wait for it."""
    chosen = list(all_cases(course.times, True, reach))
    with caplog.at_level(logging.INFO):
        await together(chosen, course, MANY_SIDE_BY_SIDE)
    assert SESSION_TOKEN not in caplog.text
