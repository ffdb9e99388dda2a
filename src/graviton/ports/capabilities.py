"""What an implementation can do beyond its port's minimum, as data.

A layer may narrow what it wraps, never widen it. Calling an ability that is not declared raises Unsupported.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Capabilities"]


class Capabilities(NamedTuple):
    """Abilities of one backend object. The defaults are the minimum every implementation has."""

    persistent: bool = False
    """What was acknowledged is there after the process ended."""
    durable: bool = False
    """What was acknowledged survives power loss."""
    multi_process: bool = False
    """Several processes may use the same place at once."""
    runs_in_place: bool = False
    """On a thread that may block (concurrency/blocking.py) `put_blocks`, `get`, `transact` and `read` run to their end
    there, without giving up the event loop once: they wait for nothing but this machine, and belong to no loop."""
    conditional_put: bool = False
    """Existence and write are one atomic step."""
    range_read: bool = True
    """A range read costs no more than its range."""
    max_value_bytes: int = 2**63 - 1
    """Largest value or object accepted, in bytes."""
    max_transaction_bytes: int = 2**63 - 1
    """Largest sum of keys and values one transaction may write, in bytes, with what an implementation counts for each
    pair beside; larger ones fail as a whole."""
