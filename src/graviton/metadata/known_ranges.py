"""Sets of ranges that a tracker remembers, so that it need not read back what it has just written.

`merge` returns the whole set. Reading all rows for it would make n merges cost n squared. So a stored locator carries
a *tag* that changes with every change, and the last sets are remembered with theirs: while the tag is still the same,
so is the set.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from typing import NamedTuple

from graviton.core.locators import Locator
from graviton.core.ranges import RangeSet

__all__ = ["TAG_BYTES", "Known", "KnownRanges", "new_tag", "place_of"]

TAG_BYTES = 8
"""Random, not counted: a store that was put back to an earlier state never shows a tag for another set."""

_KEPT_LOCATORS = 16
_KEPT_RANGES = 65_536
"""Sets remembered, and ranges of the largest of them (1 MiB): at most 16 MiB in all."""


class Known(NamedTuple):
    """The ranges of a locator under one tag."""

    tag: bytes
    """Empty if nothing is known of the locator."""
    ranges: RangeSet


class KnownRanges:
    """The sets of the locators used last, by place."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, place: bytes) -> Known | None:
        """What was remembered last."""
        return self._known.get(place)

    def remember(self, place: bytes, now: Known) -> RangeSet:
        """Keep a set, which must be what is stored under its tag whenever that is; the set."""
        self.forget(place)
        if 0 < len(now.ranges) <= _KEPT_RANGES:
            self._known[place] = now
            if len(self._known) > _KEPT_LOCATORS:
                self._known.popitem(last=False)
        return now.ranges

    def forget(self, place: bytes) -> None:
        """Give up what is known."""
        self._known.pop(place, None)


def new_tag() -> bytes:
    """A tag that no other change has."""
    return secrets.token_bytes(TAG_BYTES)


def place_of(locator: Locator) -> bytes:
    """32 bytes for a text that may be longer than any key: BLAKE2b-256 of it. Stored."""
    return hashlib.blake2b(locator.text.encode(), digest_size=32).digest()
