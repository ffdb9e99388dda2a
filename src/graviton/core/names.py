"""Names of domains and holders, and their form inside metadata keys.

A name is Unicode text of at most `MAX_DOMAIN_BYTES` bytes in UTF-8 and may be empty (the default domain and holder).
It has no control characters (C0, DEL, C1) and no NUL, so that NUL can end it in a key and a log line stays a line.
Names are compared as they are: no case folding, no Unicode normalisation.
"""

from __future__ import annotations

from graviton.core.limits import MAX_DOMAIN_BYTES
from graviton.errors import InvalidInput

__all__ = ["check_name", "decode_name", "encode_name"]

_CONTROLS = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
_END = b"\x00"


def check_name(name: str, what: str = "domain") -> str:
    """`name` itself if it is a legal name. Raises InvalidInput that calls it `what`."""
    _utf8(name, what)
    return name


def encode_name(name: str, what: str = "domain") -> bytes:
    """UTF-8 and a NUL: no encoded name is a prefix of another, so keys of one domain are one range of a scan.

    Encoded names sort as the names' code points do. Raises InvalidInput as `check_name`.
    """
    return _utf8(name, what) + _END


def decode_name(data: bytes, offset: int = 0) -> tuple[str, int]:
    """The name that `encode_name` wrote at `offset`, and the offset after it. Raises InvalidInput."""
    end = data.find(_END, offset, offset + MAX_DOMAIN_BYTES + 1)
    if end < 0:
        raise InvalidInput(f"a name in a stored key does not end within {MAX_DOMAIN_BYTES} bytes")
    try:
        name = data[offset:end].decode()
    except UnicodeDecodeError:
        raise InvalidInput("a name in a stored key is not UTF-8") from None
    return check_name(name, "stored name"), end + 1


def _utf8(name: str, what: str) -> bytes:
    if not name:
        return b""
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"the {what} {name[:40]!r} is not valid Unicode text") from None
    if len(raw) > MAX_DOMAIN_BYTES:
        raise InvalidInput(f"a {what} has at most {MAX_DOMAIN_BYTES} bytes in UTF-8, not {len(raw)}")
    if not _CONTROLS.isdisjoint(name):
        raise InvalidInput(f"the {what} {name!r} has a control character in it")
    return raw
