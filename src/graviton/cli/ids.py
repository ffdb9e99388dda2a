"""Ids as people give them: the full text, or a unique prefix of at least 8 hex digits.

`blake3:af13…3262:1024`, `blake3:af1349b9`, `af1349b9`: the algorithm may be left out, and everything after the eighth
digit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graviton.cli.errors import BadArgument
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from graviton.ports.blobs import BlobStore

__all__ = ["MIN_DIGITS", "AmbiguousId", "check_ids", "is_short", "list_prefixes", "resolve"]

MIN_DIGITS = 8
"""32 bits: two of a thousand blobs share such a prefix with a chance of 1 in 8,600."""

MAX_CANDIDATES = 10
"""Candidates of an ambiguous id that are listed."""

_HEX = frozenset("0123456789abcdef")


class AmbiguousId(InvalidInput):
    """A shortened id that more than one blob has."""

    def __init__(self, text: str, candidates: list[str], more: bool) -> None:
        shown = ", ".join(candidates) + (" and more" if more else "")
        super().__init__(
            f"the id {text} is ambiguous: {shown}", operation="find", subject=text, hint="Give more digits."
        )
        self.candidates = candidates

    def to_json(self) -> dict[str, Any]:
        """With the candidates as a list."""
        return super().to_json() | {"candidates": self.candidates}


def is_short(text: str) -> bool:
    """Whether an id is shortened: `text` is not a full key text."""
    return text.count(":") < 2


def check_ids(ids: tuple[str, ...] | list[str]) -> None:
    """Raises BadArgument for the first id that cannot be one, before anything is done."""
    for text in ids:
        _parse(text)


async def resolve(store: BlobStore, text: str) -> BlobKey:
    """The key that `text` names. A full id is not looked up: whether the blob exists is for the caller to find out.
    Raises BadArgument if it cannot be an id, NotFound, or InvalidInput naming the candidates."""
    key_or_prefixes = _parse(text)
    if isinstance(key_or_prefixes, BlobKey):
        return key_or_prefixes
    found = [stat.key for prefix in key_or_prefixes async for stat in store.list(prefix, limit=MAX_CANDIDATES + 1)]
    if not found:
        raise NotFound(
            f"no blob has an id that begins with {text}",
            operation="find",
            subject=text,
            hint="`graviton ls` lists what is there.",
        )
    if len(found) > 1:
        raise AmbiguousId(text, [key.text for key in found[:MAX_CANDIDATES]], len(found) > MAX_CANDIDATES)
    return found[0]


def list_prefixes(text: str) -> list[str]:
    """The beginnings of key texts that `text` stands for, where the algorithm may be left out. Raises InvalidInput."""
    if ":" in text or not _HEX.issuperset(text) or not text:
        return [text]
    return [f"{algo.value}:{text}" for algo in HashAlgo]


def _parse(text: str) -> BlobKey | list[str]:
    """The key, or the prefixes of key texts that a shortened id stands for."""
    try:
        return BlobKey.parse(text) if not is_short(text) else _prefixes(text)
    except InvalidInput as error:
        raise BadArgument(error.message, operation="find", subject=text, hint=error.hint) from error


def _prefixes(text: str) -> list[str]:
    algo_text, colon, digits = text.rpartition(":")
    algos = [HashAlgo.parse(algo_text)] if colon else list(HashAlgo)
    if not _HEX.issuperset(digits):
        raise InvalidInput(
            f"{text[:120]!r} is not an id",
            hint="An id has the form <algo>:<hex>:<size>; the first 8 lowercase hex digits may do.",
        )
    longest = max(2 * algo.digest_bytes for algo in algos)
    if not MIN_DIGITS <= len(digits) <= longest:
        raise InvalidInput(f"a shortened id has {MIN_DIGITS} to {longest} hex digits, not {len(digits)}")
    return [f"{algo.value}:{digits}" for algo in algos]
