"""From the beginning of a key text to the beginnings of binary keys."""

from __future__ import annotations

from graviton.core.hashing import HashAlgo
from graviton.errors import InvalidInput

__all__ = ["blob_key_prefixes"]

_HEX = frozenset("0123456789abcdef")


def blob_key_prefixes(text: str) -> list[bytes]:
    """Binary prefixes, ascending, that together cover every key whose text begins with `text` (and perhaps a few
    more: half a byte cannot be expressed). Raises InvalidInput if no key text begins so."""
    name, colon, rest = text.partition(":")
    if not colon:
        algos = [algo for algo in HashAlgo if algo.value.startswith(name)]
        if not algos:
            raise InvalidInput(f"no id begins with {text[:80]!r}", subject=text[:80])
        return [b""] if not name else sorted(bytes((algo.tag,)) for algo in algos)
    algo = HashAlgo.parse(name)
    digits, _, size = rest.partition(":")
    if not _HEX.issuperset(digits) or len(digits) > 2 * algo.digest_bytes or (size and not size.isdecimal()):
        raise InvalidInput(f"no id begins with {text[:80]!r}", subject=text[:80])
    return [bytes((algo.tag,)) + bytes.fromhex(digits[: len(digits) // 2 * 2])]
