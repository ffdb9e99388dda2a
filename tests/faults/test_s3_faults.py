"""Every request of every operation on object storage x every fault of `tests/s3_faults.py`, once and for ever.

What counts: what was acknowledged is there, whole; nothing else was touched; only a true 404 is absence; a fault that
passes is survived; one that lasts becomes a typed error, soon, after a bounded number of tries, that shows no secret.
To add operations, write rows as `harness/s3_operations.py` has them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pytest

from graviton.backends.objectstore.config import Credentials
from graviton.core.secret import Secret
from graviton.errors import Conflict, GravitonError, Retry
from tests.faults.harness.s3_object_operations import BLOB_OPERATIONS, OBJECT_OPERATIONS
from tests.faults.harness.s3_operations import BLOCK_OPERATIONS, Operation, bucket_at
from tests.s3_faults import FaultRow, faults_of
from tests.s3_proxy import Kind, S3Proxy

pytestmark = pytest.mark.s3

OPERATIONS = BLOCK_OPERATIONS + OBJECT_OPERATIONS + BLOB_OPERATIONS

KNOWN_GAPS: Mapping[tuple[type[Operation], str], str] = {}
"""What does not hold yet, and why; it fails when it does."""

SESSION_TOKEN = "a-session-token-of-the-tests"
REQUEST_SECONDS = 10.0
HANGING_SECONDS = 1.0
"""The same where a time-out is what happens. Each case makes a client of its own, which takes a slow machine a while
when many do: a shorter one would strike requests that are not meant."""
ONCE_RETRY_SECONDS = 5.0
"""Long, so that a machine that is slow does not use it up."""
EVER_RETRY_SECONDS = 0.2
SOON_SECONDS = 10.0
"""For an operation of three requests, on a machine that does other things."""
MAX_TRIES = 20
"""With waits that double from 50 ms, 0.2 s are used up long before."""
SIDE_BY_SIDE = 32


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


def cases(operation: type[Operation], times: int | None) -> Iterator[Case]:
    """What happens for ever, only if it is tried again: the others are over with the first."""
    for number, kind in enumerate(operation.requests):
        for fault in faults_of(kind, where=lambda row: row.name not in operation.left_out):
            meant = operation.means(kind, fault)
            if times is not None or meant.passes:
                yield Case(operation, number, meant)


class Outcome(NamedTuple):
    error: Exception | None
    happened: int
    seen: list[tuple[Kind, str]]
    seconds: float


async def outcome(case: Case, times: int | None, retry_seconds: float) -> Outcome:
    """Do it, look at what is there afterwards, and tell what became of it."""
    behind = case.operation.server()
    settings = {"prefix": f"run-{secrets.token_hex(6)}/blocks", "retry_seconds": retry_seconds}
    operation = case.operation()
    straight = behind.config(bucket_at(behind), **(settings | {"retry_seconds": 10.0}))
    await operation.prepare(straight)
    async with S3Proxy(behind) as proxy:
        operation.seen = proxy.seen
        if case.kind is Kind.LIST:
            proxy.page_size = 2
        happened = proxy.plan(case.kind, case.fault.do, first=case.nth, times=times)
        token = Secret(SESSION_TOKEN) if behind.takes_tokens else None
        keys = Credentials(behind.access_key, Secret(behind.secret_key), token)
        settings["request_seconds"] = HANGING_SECONDS if case.fault.hangs else REQUEST_SECONDS
        broken = proxy.server.config(straight.bucket, credentials=keys, **settings)
        began, error = time.monotonic(), None
        try:
            await operation.call(broken)
        except GravitonError as failure:
            error = failure
        seconds = time.monotonic() - began
        seen = [(one.kind, one.fault) for one in proxy.seen]
        await operation.check(straight, error is None)
    return Outcome(error, happened(), seen, seconds)


async def together(operation: type[Operation], check: object, times: int | None, retry_seconds: float) -> None:
    """All cases of an operation, side by side: most of the time they wait. Every one that fails is told."""
    turn = asyncio.Semaphore(SIDE_BY_SIDE)
    failures: list[str] = []

    async def run(case: Case) -> None:
        async with turn:
            try:
                check(case, await outcome(case, times, retry_seconds))  # type: ignore[operator]
            except Exception:  # noqa: BLE001 - told with the others
                if not case.is_gap:
                    failures.append(f"--- {case}\n{traceback.format_exc()}")
            else:
                if case.is_gap:
                    failures.append(f"--- {case}: works, strike it off the list of gaps")

    await asyncio.gather(*(run(case) for case in cases(operation, times)))
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
    assert got.seconds < SOON_SECONDS
    assert 1 <= got.happened <= MAX_TRIES, got.seen
    if case.fault.kind is None:
        assert got.error is None, got.error
    else:
        check_error(case, got)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
async def test_fault_that_happens_once(operation: type[Operation], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await together(operation, check_once, 1, ONCE_RETRY_SECONDS)
    assert SESSION_TOKEN not in caplog.text


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.__name__)
async def test_fault_that_lasts(operation: type[Operation], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await together(operation, check_for_ever, None, EVER_RETRY_SECONDS)
    assert SESSION_TOKEN not in caplog.text
