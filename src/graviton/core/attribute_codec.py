"""The stored form of attributes, version 1: docs/formats/attributes.md is its definition.

Compact and canonical: equal attributes have equal bytes, and only those bytes decode. The usual blob (size and chunk
count confirmed, a file name advertised) takes about 60 bytes. Decoding anything else raises InvalidInput after looking
at no more than `MAX_ENCODED_BYTES` bytes and allocating no more than a small multiple of the input.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from graviton.core.attribute_values import (
    CHUNK_COUNT,
    CUSTOM_PREFIX,
    MIME,
    SIZE,
    AttributeValue,
    Stamped,
    check_source,
    check_value,
    digest_name,
)
from graviton.core.hashing import Digest, HashAlgo
from graviton.errors import InvalidInput

__all__ = ["EMPTY", "FORMAT_VERSION", "MAX_CUSTOM", "MAX_ENCODED_BYTES", "check_count", "decode", "encode"]

FORMAT_VERSION: Final = 1

MAX_CUSTOM: Final = 64
"""Custom attributes per stage: with it the stamps of a blob fit one byte, and a row stays far below any store's limit
on values. More belongs into a blob of its own."""

MAX_ENCODED_BYTES: Final = 2 * (MAX_CUSTOM * (64 + 4 * 1024 + 8) + 512) + 138 * (64 + 9) + 2
"""No attributes encode to more: two stages of 64 names of 64 bytes and values of 1,024 four-byte characters, the five
other fields, and a stamp for each. A bound for refusing input at once, not an aim: 532 KiB."""

EMPTY: Final = bytes((FORMAT_VERSION, 0))
"""No attributes at all."""

# Field codes, in the order of the names in ASCII, which is the order of entries.
_F_CHUNK_COUNT, _F_DIGEST, _F_MIME, _F_SIZE, _F_CUSTOM = range(5)
_CODES = {CHUNK_COUNT: _F_CHUNK_COUNT, MIME: _F_MIME, SIZE: _F_SIZE}
_CONFIRMED = 0x80
_TIME = struct.Struct(">Q")

Stage = Mapping[str, Stamped]


def encode(advertised: Stage, confirmed: Stage) -> bytes:
    """The bytes of two valid stages. O(total size)."""
    stamps: dict[tuple[str, int], int] = {}
    body = bytearray()
    for stage, bit in ((advertised, 0), (confirmed, _CONFIRMED)):
        for name in sorted(stage):
            stamped = stage[name]
            stamp = stamps.setdefault((stamped.source, stamped.at_ns), len(stamps))
            _put_entry(body, bit, stamp, name, stamped.value)
    out = bytearray((FORMAT_VERSION, len(stamps)))
    for source, at_ns in stamps:
        out += _TIME.pack(at_ns)
        out.append(len(source))
        out += source.encode("ascii")
    out += body
    return bytes(out)


def _put_entry(body: bytearray, bit: int, stamp: int, name: str, value: AttributeValue) -> None:
    if isinstance(value, int):
        body += bytes((bit | _CODES[name], stamp))
        _put_number(body, value)
    elif isinstance(value, Digest):
        body += bytes((bit | _F_DIGEST, stamp, value.algo.tag))
        body += value.raw
    else:
        if name == MIME:
            body += bytes((bit | _F_MIME, stamp))
        else:
            short = name[len(CUSTOM_PREFIX) :].encode("ascii")
            body += bytes((bit | _F_CUSTOM, stamp, len(short)))
            body += short
        raw = value.encode()
        _put_number(body, len(raw))
        body += raw


def _put_number(out: bytearray, number: int) -> None:
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def decode(data: bytes) -> tuple[dict[str, Stamped], dict[str, Stamped]]:
    """The advertised and confirmed stages whose encoding is exactly `data`. Raises InvalidInput."""
    if len(data) > MAX_ENCODED_BYTES:
        raise _bad(f"{len(data)} bytes, more than {MAX_ENCODED_BYTES}")
    if not data:
        raise _bad("no bytes at all")
    if data[0] != FORMAT_VERSION:
        raise _bad(f"version {data[0]}; this program reads version {FORMAT_VERSION}")
    try:
        return _decode(data)
    except (IndexError, struct.error):
        raise _bad("cut off") from None
    except UnicodeDecodeError:
        raise _bad("text that is not UTF-8") from None


def _decode(data: bytes) -> tuple[dict[str, Stamped], dict[str, Stamped]]:
    stamps: list[tuple[str, int]] = []
    at = 2
    for _ in range(data[1]):
        (at_ns,) = _TIME.unpack_from(data, at)
        end = at + 9 + data[at + 8]
        source = _slice(data, at + 9, end).decode("ascii")
        check_source(source, at_ns)
        stamps.append((source, at_ns))
        at = end
    if len(set(stamps)) != len(stamps):
        raise _bad("a stamp twice")
    stages: tuple[dict[str, Stamped], dict[str, Stamped]] = ({}, {})
    last_stage, last_name, used = 0, "", 0
    while at < len(data):
        stage, stamp = data[at] >> 7, data[at + 1]
        name, value, at = _get_value(data, at)
        if stage < last_stage or (stage == last_stage and name <= last_name):
            raise _bad(f"attribute {name} twice or out of order")
        if stamp > used or stamp >= len(stamps):
            raise _bad(f"the stamp of attribute {name} does not exist or is out of order")
        check_value(name, value)
        stages[stage][name] = Stamped(value, *stamps[stamp])
        used = max(used, stamp + 1)
        last_stage, last_name = stage, name
    if used != len(stamps):
        raise _bad("a stamp that nothing uses")
    for values in stages:
        check_count(values)
    return stages


def _get_value(data: bytes, at: int) -> tuple[str, AttributeValue, int]:
    """Name and value of the entry at `at`, and the offset after it."""
    code = data[at] & 0x7F
    at += 2
    if code in (_F_SIZE, _F_CHUNK_COUNT):
        number, at = _get_number(data, at)
        return SIZE if code == _F_SIZE else CHUNK_COUNT, number, at
    if code == _F_DIGEST:
        algo = HashAlgo.from_tag(data[at])
        end = at + 1 + algo.digest_bytes
        return digest_name(algo), Digest(algo, _slice(data, at + 1, end)), end
    if code == _F_MIME:
        name = MIME
    elif code == _F_CUSTOM:
        end = at + 1 + data[at]
        name = CUSTOM_PREFIX + _slice(data, at + 1, end).decode("ascii")
        at = end
    else:
        raise _bad(f"field {code} is unknown")
    length, at = _get_number(data, at)
    return name, _slice(data, at, at + length).decode(), at + length


def _get_number(data: bytes, at: int) -> tuple[int, int]:
    """A number of at most 63 bits in LEB128, low 7 bits first, without needless bytes."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    number, shift = byte & 0x7F, 7
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
        if shift > 56:
            raise _bad("a number of more than 63 bits")
    if byte == 0:
        raise _bad("a number with needless bytes")
    return number, at


def _slice(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise IndexError
    return data[start:end]


def check_count(values: Stage) -> None:
    """Raises InvalidInput if a stage has more than MAX_CUSTOM custom attributes."""
    # A stage has at most five other names, so the count is looked at closely only when it may matter.
    if len(values) > MAX_CUSTOM:
        custom = sum(1 for name in values if name.startswith(CUSTOM_PREFIX))
        if custom > MAX_CUSTOM:
            raise InvalidInput(f"a blob has at most {MAX_CUSTOM} custom attributes, not {custom}")


def _bad(what: str) -> InvalidInput:
    return InvalidInput(f"stored attributes are malformed: {what}")
