r"""File names as text, reversibly: any bytes without NUL to a UTF-8 text without control characters, and back.

Valid UTF-8 stays as it is, except: `\\`, `\t`, `\n`, `\r` for these four characters, and `\xHH` (lowercase) for each
byte of another control character (C0, DEL, C1), of U+2028 and U+2029, which some programs take for the end of a line,
and for each byte that is not part of valid UTF-8. Every byte string has exactly one text.
"""

from __future__ import annotations

from graviton.errors import InvalidInput

__all__ = ["escape", "unescape"]

_SHORT = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_LONG = dict.fromkeys(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xDC80, 0xDD00))))
_SHORT_BYTES = {"\\": b"\\", "t": b"\t", "n": b"\n", "r": b"\r"}
_HEX = frozenset("0123456789abcdef")


def escape(raw: bytes) -> str:
    """The text of `raw`; at most four characters per byte."""
    text = raw.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text  # the usual name; all that is escaped is not printable, whatever Unicode version Python knows
    return "".join(map(_escape_char, text))


def _escape_char(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char in _LONG:
        return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
    return char


def unescape(text: str) -> bytes:
    """The bytes whose text is exactly `text`. Raises InvalidInput."""
    if "\\" not in text:
        if text.isprintable():
            return text.encode()
        raw = text.encode("utf-8", "surrogatepass")
    else:
        head, *parts = text.split("\\")
        out = [head.encode("utf-8", "surrogatepass")]
        index = 0
        while index < len(parts):
            part = parts[index]
            if part == "" and index + 1 < len(parts):  # a doubled backslash: what follows the second is plain
                out.append(b"\\" + parts[index + 1].encode("utf-8", "surrogatepass"))
                index += 2
                continue
            out.append(_unescape_part(part))
            index += 1
        raw = b"".join(out)
    if escape(raw) != text:
        raise InvalidInput(f"the name {text[:80]!r} is not escaped as it must be")
    return raw


def _unescape_part(part: str) -> bytes:
    short = _SHORT_BYTES.get(part[:1])
    if short is not None:
        return short + part[1:].encode("utf-8", "surrogatepass")
    if part[:1] == "x" and len(part) >= 3 and _HEX.issuperset(part[1:3]):
        return bytes((int(part[1:3], 16),)) + part[3:].encode("utf-8", "surrogatepass")
    raise InvalidInput(f"unknown escape '\\{part[:3]}' in a name")
