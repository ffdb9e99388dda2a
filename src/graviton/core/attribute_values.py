"""One attribute of a blob: its name, what values it may have, and where a value came from.

| name | value |
|---|---|
| `graviton.chunk-count` | int, 0 to MAX_SIZE: number of blocks |
| `graviton.digest.<algo>` | Digest of that algorithm, of the whole blob |
| `graviton.mime` | text, printable ASCII `type/subtype[; parameters]`, at most MAX_MIME_CHARS |
| `graviton.size` | int, 0 to MAX_SIZE: bytes |
| `user.<name>` | text of at most MAX_CUSTOM_VALUE_CHARS characters, no NUL, no lone surrogates; may be empty |

A custom name is `user.` and `[A-Za-z0-9][A-Za-z0-9._:-]*`, in all at most MAX_CUSTOM_NAME_CHARS characters.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from graviton.core._frozen import Frozen, set_field
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.limits import MAX_CUSTOM_NAME_CHARS, MAX_CUSTOM_VALUE_CHARS, MAX_MIME_CHARS, MAX_SIZE
from graviton.errors import InvalidInput

__all__ = [
    "CHUNK_COUNT",
    "CUSTOM_PREFIX",
    "FILE_NAME",
    "MAX_SOURCE_CHARS",
    "MIME",
    "SIZE",
    "AttributeValue",
    "Stamped",
    "check_source",
    "check_value",
    "custom_name",
    "digest_name",
]

SIZE: Final = "graviton.size"
CHUNK_COUNT: Final = "graviton.chunk-count"
MIME: Final = "graviton.mime"
DIGEST_PREFIX: Final = "graviton.digest."
CUSTOM_PREFIX: Final = "user."
FILE_NAME: Final = "user.name"
"""The base name of the file that was put, unless the caller said not to keep it."""

MAX_SOURCE_CHARS: Final = 64
"""A source is a word such as `client`, `runtime` or `cli`; it is stored once per blob and stage."""

AttributeValue: TypeAlias = int | str | Digest

_WORD_START = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_WORD = _WORD_START | frozenset("._:-")
_DIGEST_ALGOS: dict[str, HashAlgo] = {DIGEST_PREFIX + algo.value: algo for algo in HashAlgo}
_DIGEST_NAMES: dict[HashAlgo, str] = {algo: name for name, algo in _DIGEST_ALGOS.items()}


class Stamped(Frozen):
    """A value with its origin: who said so (`source`) and when (`at_ns`, nanoseconds since 1970 UTC)."""

    __slots__ = ("at_ns", "source", "value")
    __match_args__ = ("value", "source", "at_ns")
    value: AttributeValue
    source: str
    at_ns: int

    def __init__(self, value: AttributeValue, source: str, at_ns: int) -> None:
        """Not checked here: `BinaryAttributes` checks what is put into it."""
        set_field(self, "value", value)
        set_field(self, "source", source)
        set_field(self, "at_ns", at_ns)


def digest_name(algo: HashAlgo) -> str:
    """The attribute name of a digest, `graviton.digest.<algo>`."""
    return _DIGEST_NAMES[algo]


def custom_name(text: str) -> str:
    """`text` as a full custom name: with `user.` before it unless it is there. Raises InvalidInput."""
    name = text if text.startswith(CUSTOM_PREFIX) else CUSTOM_PREFIX + text
    _check_custom_name(name)
    return name


def check_source(source: str, at_ns: int) -> None:
    """Raises InvalidInput unless `source` is a word of at most MAX_SOURCE_CHARS and the time fits 63 bits."""
    if not is_word(source) or len(source) > MAX_SOURCE_CHARS:
        raise InvalidInput(f"the source of an attribute is a short word such as 'client', not {source[:80]!r}")
    if not 0 <= at_ns <= MAX_SIZE:
        raise InvalidInput(f"the time of an attribute is 0 to {MAX_SIZE} ns, not {at_ns}")


def check_value(name: str, value: AttributeValue) -> None:
    """Raises InvalidInput, naming the attribute, unless `name` exists and may have this `value`."""
    if name.startswith(CUSTOM_PREFIX):
        _check_custom_name(name)
        _check_text(name, value, MAX_CUSTOM_VALUE_CHARS)
    elif name in (SIZE, CHUNK_COUNT):
        if type(value) is not int or not 0 <= value <= MAX_SIZE:
            raise InvalidInput(f"attribute {name} is a whole number from 0 to {MAX_SIZE}, not {value!r}", subject=name)
    elif name == MIME:
        _check_mime(value)
    elif (algo := _DIGEST_ALGOS.get(name)) is not None:
        if not isinstance(value, Digest) or value.algo is not algo:
            raise InvalidInput(f"attribute {name} is a {algo.value} digest, not {value!r}", subject=name)
    else:
        raise InvalidInput(
            f"unknown attribute {name[:80]!r}", subject=name[:80], hint="Names of your own begin with 'user.'."
        )


def is_word(text: str) -> bool:
    """Whether `text` matches `[A-Za-z0-9][A-Za-z0-9._:-]*`."""
    return text != "" and text[0] in _WORD_START and _WORD.issuperset(text)


def _check_custom_name(name: str) -> None:
    if len(name) > MAX_CUSTOM_NAME_CHARS or not is_word(name[len(CUSTOM_PREFIX) :]):
        raise InvalidInput(
            f"bad attribute name {name[:80]!r}",
            subject=name[:80],
            hint=f"A name has letters, digits and . _ : - and begins with a letter or digit; with 'user.' before it"
            f" it has at most {MAX_CUSTOM_NAME_CHARS} characters.",
        )


def _check_mime(value: AttributeValue) -> None:
    text = _check_text(MIME, value, MAX_MIME_CHARS)
    kind, slash, rest = text.partition("/")
    if not (text.isascii() and text.isprintable() and kind and slash and rest) or text[0] == " " or text[-1] == " ":
        raise InvalidInput(f"a MIME type has the form type/subtype, not {text!r}", subject=MIME)


def _check_text(name: str, value: AttributeValue, max_chars: int) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"attribute {name} is text, not {value!r}", subject=name)
    if len(value) > max_chars:
        raise InvalidInput(f"attribute {name} has at most {max_chars} characters, not {len(value)}", subject=name)
    if "\x00" in value:
        raise InvalidInput(f"attribute {name} has a NUL character in it", subject=name)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"attribute {name} is not valid Unicode text: {value[:40]!r}", subject=name) from None
    return value
