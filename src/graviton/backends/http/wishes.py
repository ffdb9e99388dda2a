"""What a put asks for and what came of it, on the way through its requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from graviton.backends.http.answers import PutReport
from graviton.backends.http.bodies import Hashes
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo

__all__ = ["Done", "Wishes"]


class Wishes(NamedTuple):
    """A plan, as requests say it."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    algos: tuple[HashAlgo, ...]
    """What the bytes are hashed with here: what the server will use, or all while nobody knows."""


class Done(NamedTuple):
    """A put that the server has acknowledged."""

    report: PutReport
    attributes: BinaryAttributes | None
    """Of the blob; None if they did not fit into the answer's head."""
    hashes: Hashes
    """Of the bytes that were read here."""
