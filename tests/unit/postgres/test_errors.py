"""What the server and the driver say becomes one of our errors, by its class."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors as pg
from psycopg_pool import PoolTimeout

from graviton.backends.postgres.errors import RacedError, can_pass, translate
from graviton.errors import (
    ConfigError,
    Conflict,
    GravitonError,
    IntegrityError,
    LimitExceeded,
    PermissionDenied,
    Retry,
    StorageFull,
    Unauthenticated,
    Unavailable,
)

WHERE = "postgresql://h/db"


@pytest.mark.parametrize(
    ("error", "kind", "passes"),
    [
        (pg.SerializationFailure("x"), Conflict, True),
        (pg.DeadlockDetected("x"), Conflict, True),
        (RacedError("x"), Conflict, True),
        (pg.AdminShutdown("x"), Unavailable, True),
        (pg.CrashShutdown("x"), Unavailable, True),
        (pg.CannotConnectNow("x"), Unavailable, True),
        (pg.ConnectionException("x"), Unavailable, True),
        (pg.IdleInTransactionSessionTimeout("x"), Unavailable, True),
        (pg.TooManyConnections("x"), Unavailable, True),
        (pg.LockNotAvailable("x"), Unavailable, True),
        (pg.QueryCanceled("x"), Unavailable, False),
        (psycopg.OperationalError("server closed the connection unexpectedly"), Unavailable, True),
        (psycopg.InterfaceError("the connection is closed"), Unavailable, True),
        (PoolTimeout("x"), Unavailable, True),
        (pg.UndefinedTable("x"), ConfigError, False),
        (pg.InvalidPassword("x"), Unauthenticated, False),
        (pg.InvalidCatalogName("x"), ConfigError, False),
        (pg.InsufficientPrivilege("x"), PermissionDenied, False),
        (pg.ReadOnlySqlTransaction("x"), PermissionDenied, False),
        (pg.DiskFull("x"), StorageFull, False),
        (pg.DataCorrupted("x"), IntegrityError, False),
        (pg.IndexCorrupted("x"), IntegrityError, False),
        (pg.CheckViolation("x"), IntegrityError, False),
        (pg.ProgramLimitExceeded("x"), LimitExceeded, False),
        (pg.SyntaxError("x"), Unavailable, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_class_decides(error: Exception, kind: type[GravitonError], passes: bool) -> None:
    made = translate(error, WHERE, "index.open")
    assert type(made) is kind
    assert (made.operation, made.subject) == ("index.open", WHERE)
    assert can_pass(error) is passes


def test_statement_of_ours_that_is_wrong_is_not_worth_repeating() -> None:
    assert translate(pg.SyntaxError("x"), WHERE, "x").retry is Retry.PERMANENT


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ('password authentication failed for user "u"', Unauthenticated),
        ("no pg_hba.conf entry for host", Unauthenticated),
        ('role "u" does not exist', Unauthenticated),
        ('database "d" does not exist', ConfigError),
        ("the database system is starting up", Unavailable),
        ("sorry, too many clients already", Unavailable),
        ("remaining connection slots are reserved", Unavailable),
    ],
)
def test_refused_connections_say_why(reason: str, kind: type[GravitonError]) -> None:
    error = psycopg.OperationalError(f'connection failed: connection to server at "h", port 1 failed: FATAL:  {reason}')
    assert type(translate(error, WHERE, "x")) is kind
    assert can_pass(error) is (kind is Unavailable)
