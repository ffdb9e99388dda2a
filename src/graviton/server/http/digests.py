"""Content-Digest and Repr-Digest (RFC 9530): what a client says the bytes that it sends hash to.

Both are dictionaries of structured fields (RFC 9651), as `sha-256=:<base64>:`. A claim that cannot be checked is
refused rather than ignored: whoever made it relies on it.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from graviton.core.hashing import Digest, HashAlgo
from graviton.errors import InvalidInput

__all__ = ["claimed_digest", "digest_field"]

MAX_CHARS: Final = 1024
"""Eight digests of the largest algorithm there is; longer is refused before it is looked at."""

_PARAMETER = r"(?:[ ]*;[ ]*[a-z*][a-z0-9_.*-]*(?:=(?:[A-Za-z0-9*:/._+-]+|\?[01]|\"[\x20-\x21\x23-\x5b\x5d-\x7e]*\"))?)"
_MEMBER = re.compile(rf"([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):{_PARAMETER}*", re.ASCII)
_COMMA = re.compile(r"[ \t]*,[ \t]*")


def claimed_digest(name: str, header: str) -> Digest:
    """The SHA-256 that the header `name` claims; of several the last counts, as structured fields have it. Raises
    InvalidInput if it is malformed, or has only algorithms that are not checked here."""
    if len(header) > MAX_CHARS:
        raise _malformed(name)
    text = header.strip(" ")
    found: dict[str, bytes] = {}
    at = 0
    while True:
        member = _MEMBER.match(text, at)
        if member is None:
            raise _malformed(name)
        try:
            found[member[1]] = base64.b64decode(member[2], validate=True)
        except (binascii.Error, ValueError):
            raise _malformed(name) from None
        at = member.end()
        if at == len(text):
            break
        comma = _COMMA.match(text, at)
        if comma is None:
            raise _malformed(name)
        at = comma.end()
    claimed = found.get("sha-256")
    if claimed is None:
        raise InvalidInput(
            f"{name} names no algorithm that is checked here",
            subject=name,
            hint="Send sha-256, alone or beside others.",
        )
    if len(claimed) != HashAlgo.SHA256.digest_bytes:
        raise _malformed(name)
    return Digest(HashAlgo.SHA256, claimed)


def digest_field(digest: Digest) -> str:
    """A SHA-256 digest as these headers have it."""
    return f"sha-256=:{base64.b64encode(digest.raw).decode('ascii')}:"


def _malformed(name: str) -> InvalidInput:
    return InvalidInput(
        f"{name} is malformed", subject=name, hint="Write sha-256=:BASE64:, with the 32 bytes of the digest."
    )
