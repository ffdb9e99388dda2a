"""Events as rows: written by the transaction that makes the change, so that one is never there without the other.

Everybody writes them last, after all locks were taken: of two transactions of which one waited for the other, the ids
of that one are greater then. The order of events rests on that (docs/decisions/0023-postgres-events.md).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from graviton.backends.postgres._arrays import Integers, Texts
from graviton.backends.postgres._scripts import Statement
from graviton.ports.events import EventKind

__all__ = ["INSERT_EVENTS", "Told", "blob_committed", "event_values", "tell"]

INSERT_EVENTS = """
INSERT INTO events (at, domain_id, kind, subject, data)
SELECT %(now)b, e.domain_id, e.kind, e.subject, e.data::jsonb
FROM unnest(%(told_domains)b::int[], %(told_kinds)b::text[], %(told_subjects)b::text[], %(told_data)b::text[])
    AS e(domain_id, kind, subject, data)
"""
"""The rows of `event_values`, with the time `now`."""


class Told(NamedTuple):
    """An event to be written."""

    domain_id: int
    kind: EventKind
    subject: str
    data: str = "{}"
    """JSON."""


def blob_committed(domain_id: int, subject: str, blocks: int) -> Told:
    """A manifest became that of a blob: a new one, one that was deleted and is back, or one that repairs it."""
    return Told(domain_id, EventKind.BLOB_COMMITTED, subject, json.dumps({"blocks": blocks}))


def event_values(events: Sequence[Told], kinds: Collection[EventKind]) -> dict[str, Any]:
    """The parameters of `INSERT_EVENTS`, but for `now`, for those of `events` whose kind is wanted."""
    wanted = [event for event in events if event.kind in kinds]
    return {
        "told_domains": Integers(event.domain_id for event in wanted),
        "told_kinds": Texts(event.kind.value for event in wanted),
        "told_subjects": Texts(event.subject for event in wanted),
        "told_data": Texts(event.data for event in wanted),
    }


def tell(now_ns: int, event: Told, kinds: Collection[EventKind]) -> list[Statement]:
    """The statement that writes `event`; none if its kind is not wanted."""
    if event.kind not in kinds:
        return []
    return [Statement(INSERT_EVENTS, {"now": now_ns} | event_values([event], kinds))]
