"""Which key a PKCS#8 file holds. The server below takes four kinds, and takes the process down (abort) at any other.

PrivateKeyInfo (RFC 5208) is DER: a sequence of the version, the algorithm (a sequence of its OID and parameters), and
the key itself in an octet string; that of RSA is again a sequence, whose second number is the modulus (RFC 8017).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

__all__ = ["TAKEN", "is_taken"]

TAKEN: Final = "RSA of 2048 to 4096 bits, ECDSA with P-256 or P-384, Ed25519"

_FIRST_KEY = re.compile(r"-----BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]*)-----END PRIVATE KEY-----")

_SEQUENCE: Final = 0x30
_INTEGER: Final = 0x02

_RSA: Final = bytes.fromhex("06092a864886f70d010101")  # 1.2.840.113549.1.1.1
_RSA_BITS: Final = range(2048, 4097)
_CURVES: Final = tuple(
    map(
        bytes.fromhex,
        (
            "06072a8648ce3d0201 06082a8648ce3d030107",  # id-ecPublicKey, prime256v1
            "06072a8648ce3d0201 06052b81040022",  # id-ecPublicKey, secp384r1
            "06032b6570",  # Ed25519
        ),
    )
)


def is_taken(pem: str) -> bool:
    """Whether the first key in the file is one of TAKEN; False also for what is damaged."""
    found = _FIRST_KEY.search(pem)
    try:
        fields = [] if found is None else _elements(_inside(base64.b64decode(found[1]), _SEQUENCE))
        algorithm, key = fields[1][1], fields[2][1]
        if not algorithm.startswith(_RSA):
            return algorithm in _CURVES
        modulus = _elements(_inside(key, _SEQUENCE))[1]
    except (ValueError, IndexError, binascii.Error):
        return False
    return modulus[0] == _INTEGER and int.from_bytes(modulus[1]).bit_length() in _RSA_BITS


def _inside(data: bytes, tag: int) -> bytes:
    """What the only element holds. Raises ValueError, IndexError."""
    ((found, content),) = _elements(data)
    if found != tag:
        raise ValueError(f"tag {found}, not {tag}")
    return content


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Tags and contents, one after the other. Raises ValueError, IndexError."""
    found, at = [], 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size >= 0x80:  # so many bytes of length follow
            count = size & 0x7F
            size, at = int.from_bytes(data[at : at + count]), at + count
        if at + size > len(data):
            raise ValueError("it ends too early")
        found.append((tag, data[at : at + size]))
        at += size
    return found
