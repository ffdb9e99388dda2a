"""Positions in the stream of events: which events a follower has been given.

What he has seen is told as PostgreSQL tells it, by snapshots: every event of the transactions that had ended, and none
of those that were under way. The latter are looked for again later, so a slow transaction is never passed over, and
need not be waited for. A batch is what one snapshot sees more than another one, in the order of ids: that of the
changes that depend on each other.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from graviton.ports.outbox import no_position

__all__ = ["NOTHING_SEEN", "Batch", "Position", "Seen", "Stream"]

_MAX_TEXT = 65_536
"""Characters of a position: as many transactions may be under way as the server has connections."""

_SEEN = r"([0-9]{1,20}):((?:[0-9]{1,20}(?:,[0-9]{1,20})*)?)"
_TEXT = re.compile(rf"([0-9a-f]{{32}}):([0-9]{{1,19}}):{_SEEN}(?::{_SEEN}:([0-9]{{1,19}}):([0-9]{{1,19}}))?", re.ASCII)
_MAX_TXID = 2**64 - 1
_MAX_BIGINT = 2**63 - 1


class Seen(NamedTuple):
    """Transactions whose events were seen: all below `end`, but those of `open`."""

    end: int
    open: tuple[int, ...] = ()
    """Ascending."""

    @classmethod
    def of(cls, end: str, open_: str) -> Seen:
        """From numbers as texts. Raises ValueError unless it is what `text` writes."""
        made = cls(int(end), tuple(int(one) for one in open_.split(",")) if open_ else ())
        if made.text != f"{end}:{open_}" or list(made.open) != sorted({*made.open}) or not 0 < made.end <= _MAX_TXID:
            raise ValueError(end)
        if made.open and not 0 < made.open[0] <= made.open[-1] < made.end:
            raise ValueError(open_)
        return made

    @property
    def floor(self) -> int:
        """Of all transactions below it the events were seen."""
        return self.open[0] if self.open else self.end

    @property
    def text(self) -> str:
        """As part of a position."""
        return f"{self.end}:{','.join(map(str, self.open))}"

    @property
    def sql(self) -> str:
        """As `pg_snapshot`."""
        return f"{self.floor}:{self.text}"

    def until(self, snapshot: str, newest: int) -> Seen:
        """What is seen in `snapshot`, a later `pg_snapshot`, in which `newest` is the last transaction with an event.

        Transactions after that one are not counted as seen, though they may have ended. A server that crashes may
        forget them, and give their numbers to others then; but not `newest`, which is on its disk.
        """
        end = max(self.end, newest + 1)
        under_way = snapshot.split(":")[2]
        numbers = sorted(int(one) for one in under_way.split(",")) if under_way else []
        return Seen(end, tuple(one for one in numbers if one < end))


NOTHING_SEEN = Seen(1)


class Batch(NamedTuple):
    """A batch that was begun."""

    seen: Seen
    """What will have been seen after it."""
    top: int
    """No event of it has a greater id."""
    last: int
    """Id of the last event that was given."""


class Stream(NamedTuple):
    """The row of `event_stream`, and what there is, as one snapshot sees it."""

    id: str
    is_here: bool
    """It began in this place."""
    trims: int
    trimmed_txid: int
    trimmed_id: int
    snapshot: str
    next_txid: int
    """No transaction that has ended has this number or a greater one."""
    newest: int
    """Last transaction with an event, 0 if there is none."""
    top: int
    """Greatest id of an event, 0 if there is none."""


class Position(NamedTuple):
    """Everything that a follower has been given."""

    stream: str
    trims: int
    """How often events had been removed when the last batch was begun."""
    seen: Seen
    batch: Batch | None = None

    @classmethod
    def parse(cls, text: str) -> Position:
        """From its text. Raises InvalidInput."""
        match = _TEXT.fullmatch(text) if len(text) <= _MAX_TEXT else None
        try:
            if match is None:
                raise ValueError(text)
            stream, trims, end, open_, batch_end, batch_open, top, last = match.groups()
            batch = None
            if batch_end is not None:
                batch = Batch(Seen.of(batch_end, batch_open), int(top), int(last))
            made = cls(stream, int(trims), Seen.of(end, open_), batch)
            if made.text != text or max(made.trims, int(top or 0), int(last or 0)) > _MAX_BIGINT:
                raise ValueError(text)
        except ValueError:
            raise no_position(text) from None
        return made

    @property
    def text(self) -> str:
        """To be kept by followers."""
        text = f"{self.stream}:{self.trims}:{self.seen.text}"
        if self.batch is not None:
            text += f":{self.batch.seen.text}:{self.batch.top}:{self.batch.last}"
        return text

    def may_lack(self, stream: Stream) -> bool:
        """Whether events that were not seen may have been removed."""
        if self.trims == stream.trims or stream.trimmed_txid < self.seen.floor:
            return False
        batch = self.batch
        return batch is None or not (stream.trimmed_id <= batch.last and stream.trimmed_txid < batch.seen.floor)

    def is_ahead(self, stream: Stream) -> bool:
        """Whether it has seen what the database does not have yet."""
        end = self.seen.end if self.batch is None else self.batch.seen.end
        return end > stream.next_txid or self.trims > stream.trims
