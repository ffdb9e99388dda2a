"""Rows of owners as scripts see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from graviton.backends.postgres._arrays import Bigints
from graviton.backends.postgres._scripts import Row, Statement
from graviton.errors import Conflict
from graviton.metadata.owners import not_open
from graviton.ports.block_index import OwnerRecord, OwnerState

__all__ = ["OWNER_COLUMNS", "Owner", "check_open", "committed_keeps", "lock_owners", "owner_states"]

OWNER_COLUMNS = "id, domain_id, state, unconfirmed, losing_claims, changed_at, expires_at, lifetime"

_LOCK_OWNERS = f"""
SELECT {OWNER_COLUMNS} FROM owners WHERE id = ANY(%(owners)b::bigint[]) ORDER BY id FOR NO KEY UPDATE
"""

owner_states = {state.value: state for state in OwnerState}


class Owner(NamedTuple):
    """A row of `owners`."""

    id: int
    domain_id: int
    state: OwnerState
    unconfirmed: int
    losing_claims: bool
    changed_at_ns: int
    expires_at_ns: int
    lifetime_ns: int

    @classmethod
    def of(cls, row: Row) -> Owner:
        """From the columns `OWNER_COLUMNS`."""
        id_, domain_id, state, *rest = row
        return cls(id_, domain_id, owner_states[state], *rest)

    def record(self) -> OwnerRecord:
        """The row as the port shows it."""
        return OwnerRecord(self.id, self.state, self.unconfirmed, self.changed_at_ns, self.expires_at_ns)


def lock_owners(owners: Iterable[int]) -> Statement:
    """Find owners, which nobody else changes until the transaction ends."""
    return Statement(_LOCK_OWNERS, {"owners": Bigints(owners)})


def check_open(session: int, rows: Sequence[Row]) -> Owner:
    """The locked row of an open session. Raises Conflict: whatever else it is, it is final."""
    owner = Owner.of(rows[0]) if rows else None
    if owner is None or owner.state is not OwnerState.OPEN:
        raise not_open(session, None if owner is None else owner.state)
    return owner


def committed_keeps(owner: Owner) -> Conflict:
    """The error of who wants to take claims away from an owner that needs them."""
    return Conflict(
        f"the owner {owner.id:x} is {owner.state.name.lower()} and keeps its claims", subject=f"{owner.id:x}"
    )
