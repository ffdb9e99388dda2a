"""Attributes as the value of a header field: their stored form (attribute_codec.py) in base64. Everything is in it,
stages, sources and times, so what a client gets is what the store has.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from graviton.core.attribute_codec import MAX_ENCODED_BYTES
from graviton.core.attributes import BinaryAttributes
from graviton.errors import InvalidInput

__all__ = ["ATTRIBUTES_FIELD", "MAX_ASKED_CHARS", "MAX_TOLD_CHARS", "decode_attributes", "encode_attributes"]

ATTRIBUTES_FIELD: Final = "X-Graviton-Attributes"

MAX_TOLD_CHARS: Final = 4096
"""Of a field in an answer: clients and proxies take 8 KiB, and the usual blob has some 100. Who finds no field asks for
the attributes."""

MAX_ASKED_CHARS: Final = 32 * 1024
"""Of a field in a request, half of what the server takes of its head."""


def encode_attributes(attributes: BinaryAttributes) -> str:
    """The value of the field."""
    return base64.b64encode(attributes.to_bytes()).decode("ascii")


def decode_attributes(text: str) -> BinaryAttributes:
    """Inverse of `encode_attributes`. Raises InvalidInput."""
    if len(text) > 4 * (MAX_ENCODED_BYTES // 3 + 1):
        raise InvalidInput(f"{ATTRIBUTES_FIELD} is too long", subject=ATTRIBUTES_FIELD)
    try:
        return BinaryAttributes.from_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        reason = error.message if isinstance(error, InvalidInput) else "it is no base64"
        raise InvalidInput(f"{ATTRIBUTES_FIELD} is malformed: {reason}", subject=ATTRIBUTES_FIELD) from error
