"""From the beginning of a key text to the beginnings of binary keys."""

from __future__ import annotations

from typing import NamedTuple

from graviton.core.hashing import HashAlgo
from graviton.errors import InvalidInput

__all__ = ["KeyPrefix", "blob_key_prefix"]

_HEX = frozenset("0123456789abcdef")
_DIGITS = frozenset("0123456789")


class KeyPrefix(NamedTuple):
    """The beginning of a key text."""

    text: str
    """As canonical key texts have it: `sha256:` for `sha-256:`."""
    binary: list[bytes]
    """Beginnings of binary keys, ascending and without gaps, that together cover every key whose text begins with
    `text` (and a few more: other sizes of one digest). An odd digit is half a byte, which has sixteen."""


def blob_key_prefix(text: str) -> KeyPrefix:
    """What `text` is the beginning of. Raises InvalidInput if no key text begins so."""
    name, colon, rest = text.partition(":")
    if not colon:
        algos = [algo for algo in HashAlgo if algo.value.startswith(name)]
        if not algos:
            raise _no_beginning(text)
        return KeyPrefix(text, sorted(bytes((algo.tag,)) for algo in algos) if name else [b""])
    algo = HashAlgo.parse(name)
    digits, colon, size = rest.partition(":")
    whole = 2 * algo.digest_bytes
    if not _HEX.issuperset(digits) or len(digits) > whole or (colon and len(digits) < whole):
        raise _no_beginning(text)
    if not _DIGITS.issuperset(size) or (len(size) > 1 and size[0] == "0") or len(size) > 19:
        raise _no_beginning(text)
    tag = bytes((algo.tag,))
    whole_bytes = [digits] if len(digits) % 2 == 0 else [digits + last for last in sorted(_HEX)]
    return KeyPrefix(f"{algo.value}:{rest}", [tag + bytes.fromhex(one) for one in whole_bytes])


def _no_beginning(text: str) -> InvalidInput:
    return InvalidInput(
        f"no id begins with {text[:100]!r}", subject=text[:100], hint="An id has the form <algo>:<hex>:<size>."
    )
