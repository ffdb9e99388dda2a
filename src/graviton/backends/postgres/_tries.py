"""Whether, and when, an operation on the database is tried again: the one place that decides it."""

from __future__ import annotations

from graviton.backends.postgres.config import PgConfig
from graviton.backends.postgres.errors import LostReply, can_pass
from graviton.backends.postgres.metrics import PgMetrics
from graviton.concurrency.retry import RetryPolicy
from graviton.core.clock import Clock
from graviton.errors import GravitonError, Retry

__all__ = ["Tries"]


class Tries:
    """The tries of one operation."""

    def __init__(
        self, config: PgConfig, clock: Clock, operation: str, repeats_lost: bool, metrics: PgMetrics | None = None
    ) -> None:
        """`repeats_lost`: also when it is not known whether the operation happened."""
        self._where, self._operation, self._repeats_lost = config.where, operation, repeats_lost
        self._metrics = metrics
        self._waits = RetryPolicy(total_seconds=config.retry_seconds).waits(clock)

    def wait_after(self, error: Exception, failure: GravitonError) -> float:
        """Seconds to wait before the next try after `error`. Raises `failure`, which is what callers are told of it, if
        there is none."""
        if isinstance(error, LostReply):
            error.operation, error.subject = self._operation, self._where
            if not self._repeats_lost:
                raise error
        elif not can_pass(error):
            raise failure from error
        wait = next(self._waits, None)
        if wait is None:
            failure.retry = Retry.EXHAUSTED
            if failure is error:
                raise failure
            raise failure from error
        if self._metrics is not None:
            self._metrics.retried(self._operation)
        return wait
