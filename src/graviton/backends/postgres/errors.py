"""The one translation of psycopg's exceptions.

What the server says is told by its class (SQLSTATE, five letters); messages are for people, and a DETAIL line, which
may quote values, is left out.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from graviton.errors import (
    ConfigError,
    Conflict,
    GravitonError,
    IntegrityError,
    LimitExceeded,
    PermissionDenied,
    Retired,
    Retry,
    StorageFull,
    Unauthenticated,
    Unavailable,
)

__all__ = ["CLOSED_STATES", "FAILURES", "LostReply", "RacedError", "can_pass", "translate", "unmigrated"]


class RacedError(Exception):
    """Somebody else changed what a script had just read. Begun again, it sees that."""


FAILURES: Final = (psycopg.Error, PoolTimeout, PoolClosed, TooManyRequests, RacedError)
"""What scripts, the driver and its pool raise."""

_RACES: Final = frozenset({"40001", "40P01", "23505", "23503", "26000"})
"""Serialization failure, deadlock; a row that somebody else made, or removed, between two statements of ours; a
prepared statement that was lost with a call that failed (`send`). Begun again, the transaction goes through. A
statement that broke a constraint by itself would do so again until time runs out, and none does."""

_DOWN: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "53300"})
"""The server shuts down, crashed, starts; it ended this connection for idleness; it has no connection left."""

CLOSED_STATES: Final[dict[type[GravitonError], str]] = {Retired: "25R01", Unavailable: "25R02"}
"""What the triggers of closed metadata raise (rows/_gate.py); message and hint are for the user as they are. Of class
25, invalid transaction state: a COMMIT that answers so is known not to have happened."""

_CREDENTIALS = "Check the user and password (PG_USERNAME, PG_PASSWORD) and the server's pg_hba.conf."


class LostReply(Unavailable):
    """The connection broke after COMMIT was sent: the change was made as a whole, or not at all."""

    transaction: str | None = None
    """Its number, by which the server tells what became of it; None if nobody asked for it."""


def can_pass(error: BaseException) -> bool:
    """Whether the same transaction, begun again, may succeed. Nothing of it was committed."""
    state = _state(error)
    if state:
        return state in _RACES or state in _DOWN or state[:2] == "08" or state == "55P03"
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | PoolTimeout | RacedError)


_REFUSALS: Final = (
    ("password authentication failed", "28P01"),
    ("no password supplied", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ("authentication failed", "28000"),
    ("role ", "28000"),  # … does not exist, is not permitted to log in
    ("database ", "3D000"),  # … does not exist
    ("the database system is", "57P03"),
    ("too many", "53300"),  # clients already, connections for role, for database
    ("remaining connection slots", "53300"),
)
"""What servers say when they refuse a connection; libpq gives the text and not the class. In another language than
English all of it counts as "does not answer"."""


def _state(error: BaseException) -> str:
    if not isinstance(error, psycopg.Error):
        return ""
    if error.sqlstate is None and isinstance(error, psycopg.OperationalError):
        _, fatal, reason = str(error).partition("FATAL:")
        return next((state for begin, state in _REFUSALS if fatal and reason.strip().startswith(begin)), "")
    return error.sqlstate or ""


def translate(error: BaseException, where: str, operation: str) -> GravitonError:
    """The error of ours that says what `error` says about the database `where`."""
    state, what = _state(error), _message(error)

    def made(kind: type[GravitonError], message: str, hint: str = "") -> GravitonError:
        return kind(f"{message} [{state}]" if state else message, operation=operation, subject=where, hint=hint)

    for kind, closed in CLOSED_STATES.items():
        if state == closed:
            return kind(what, operation=operation, subject=where, hint=_hint(error))
    if state in ("42P01", "3F000", "42703", "42704", "42883"):
        return unmigrated(where, operation, what)
    if state[:2] == "28":
        return made(Unauthenticated, f"{where} does not let us in: {what}", _CREDENTIALS)
    if state == "3D000":
        return made(ConfigError, f"{where}: {what}", "Make it (createdb), or check the address in PG_JDBC_URL.")
    if state in ("42501", "25006"):
        return made(
            PermissionDenied,
            f"not allowed to do that in {where}: {what}",
            "Check the grants of this user (docs/guides/postgres.md), and whether that is a standby that only reads.",
        )
    if state in ("53100", "53400"):
        return made(StorageFull, f"no room in {where}: {what}", "Free space on the server's disk, then try again.")
    if state in ("XX001", "XX002"):
        return made(
            IntegrityError,
            f"{where} is damaged: {what}",
            "Look at the server's log and disk (pg_amcheck); restore the database, or the metadata from a backup.",
        )
    if state[:2] == "54":
        return made(LimitExceeded, f"{where} cannot take that: {what}")
    if state in ("40001", "40P01") or isinstance(error, RacedError):
        return made(Conflict, f"others changed the same rows all the time: {what}", "Try again.")
    if state[:2] == "23":
        return made(IntegrityError, f"{where} refused a change that does not fit its rows: {what}")
    if state in ("57014", "55P03"):
        return made(
            Unavailable,
            f"{where} took too long: {what}",
            "Somebody holds what we need, or the server is busy: look at pg_stat_activity; then try again.",
        )
    if state[:2] in ("0A", "22", "42"):
        failure = made(
            Unavailable, f"{where} does not understand us: {what}", "Use the version of graviton that migrated it."
        )
        failure.retry = Retry.PERMANENT
        return failure
    return made(
        Unavailable,
        f"{where} does not answer: {what}",
        "Check that the server runs and can be reached (`graviton doctor`); then try again.",
    )


def _message(error: BaseException) -> str:
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary
    lines = str(error).strip().splitlines()
    return lines[0].rpartition("FATAL:")[2].strip() if lines else type(error).__name__


def _hint(error: BaseException) -> str:
    return (error.diag.message_hint or "") if isinstance(error, psycopg.Error) else ""


def unmigrated(where: str, operation: str, what: str) -> ConfigError:
    """The database does not have the tables this version works with."""
    return ConfigError(
        f"{where} has not the tables that this version needs: {what}",
        operation=operation,
        subject=where,
        hint="Run `graviton db migrate`; `graviton db status` shows what is missing.",
    )
