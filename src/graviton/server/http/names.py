"""What a client says about a blob beside its bytes, in headers, and how that is said back.

File names are those of Content-Disposition (RFC 6266), in both of its forms: `filename="…"`, and `filename*=` of
RFC 8187 for what is not ASCII, which wins. Attributes are `X-Graviton-Attr-<name>`, percent-encoded UTF-8: header
values are bytes, and nobody agrees on what they mean beyond ASCII.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from graviton.core.attribute_values import check_value
from graviton.core.attributes import FILE_NAME, MIME, custom_name
from graviton.errors import InvalidInput

__all__ = [
    "ATTRIBUTE_PREFIX",
    "DEFAULT_TYPE",
    "advertised_values",
    "content_disposition",
    "file_name_of",
    "is_active",
    "percent_decoded",
]

ATTRIBUTE_PREFIX: Final = "x-graviton-attr-"
DEFAULT_TYPE: Final = "application/octet-stream"

_FORM_TYPE: Final = "application/x-www-form-urlencoded"
"""What `curl --data-binary` says of everything unless it is told otherwise, so it says nothing."""

_MAX_DISPOSITION_CHARS: Final = 8192
"""A name of 1,024 characters (MAX_CUSTOM_VALUE_CHARS), each of them up to 12 when percent-encoded, is rare; browsers
send less."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e\x80-\xff])*)"')
_BLANKS = re.compile(r"[ \t]*")
_ESCAPED = re.compile(r"\\(.)")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def advertised_values(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Attributes from headers (names in small letters, values as latin-1): content type, name, and those of their own.
    Raises InvalidInput naming the header that is malformed, and for a form, which would be kept with its wrapping."""
    values: dict[str, str] = {}
    for name, text in headers:
        if name == "content-type":
            kind = text.partition(";")[0].strip(" \t").lower()
            if kind == "multipart/form-data":
                raise InvalidInput(
                    "a form was sent, and forms are not unpacked",
                    subject=name,
                    hint="Send the bytes of the file alone as the body: curl --data-binary @FILE.",
                )
            if kind and kind != _FORM_TYPE:
                values[MIME] = _checked(name, MIME, text.strip(" \t"))
        elif name == "content-disposition":
            if (file_name := file_name_of(text)) is not None:
                values.setdefault(FILE_NAME, _checked(name, FILE_NAME, file_name))
        elif name.startswith(ATTRIBUTE_PREFIX):
            full = _attribute_name(name)
            values[full] = _checked(name, full, percent_decoded(name, text))
    return values


def _attribute_name(header: str) -> str:
    try:
        return custom_name(header[len(ATTRIBUTE_PREFIX) :])
    except InvalidInput as error:
        raise InvalidInput(f"{header[:80]}: {error.message}", subject=header[:80], hint=error.hint) from error


def _checked(header: str, name: str, value: str) -> str:
    try:
        check_value(name, value)
    except InvalidInput as error:
        raise InvalidInput(f"{header[:80]}: {error.message}", subject=header[:80], hint=error.hint) from error
    return value


def percent_decoded(header: str, text: str) -> str:
    """The text of a percent-encoded value. Raises InvalidInput if it is not that of UTF-8."""
    if not text.isascii() or _BAD_PERCENT.search(text):
        raise InvalidInput(
            f"{header[:80]} is not percent-encoded",
            subject=header[:80],
            hint="Write %25 for a percent sign and %C3%A9 for é: UTF-8, as in a URL.",
        )
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(f"{header[:80]} is not percent-encoded UTF-8", subject=header[:80]) from None


def file_name_of(disposition: str) -> str | None:
    """The last part of the file name in a Content-Disposition; None if it has none. Raises InvalidInput."""
    if len(disposition) > _MAX_DISPOSITION_CHARS:
        raise _bad_disposition()
    parameters = _parameters(disposition)
    extended, plain = parameters.get("filename*"), parameters.get("filename")
    if extended is not None:
        charset, first, rest = extended.partition("'")
        _, second, encoded = rest.partition("'")
        if not (first and second) or charset.lower() != "utf-8":
            raise _bad_disposition()
        name = percent_decoded("content-disposition", encoded)
    elif plain is not None:
        try:  # what browsers and curl send beyond ASCII is UTF-8
            name = plain.encode("latin-1").decode("utf-8")
        except UnicodeError:
            name = plain
    else:
        return None
    return re.split(r"[/\\]", name)[-1] or None  # never a path, RFC 6266 section 4.3


def _parameters(disposition: str) -> dict[str, str]:
    kind = _TOKEN.match(disposition.strip(" \t"))
    text = disposition.strip(" \t")
    if kind is None:
        raise _bad_disposition()
    found: dict[str, str] = {}
    at = _skip(text, kind.end())
    while at < len(text):
        if text[at] != ";":
            raise _bad_disposition()
        at = _skip(text, at + 1)
        if at == len(text):
            break  # a semicolon at the end
        name = _TOKEN.match(text, at)
        if name is None or text[name.end() : name.end() + 1] != "=":
            raise _bad_disposition()
        at = name.end() + 1
        value = _QUOTED.match(text, at) or _TOKEN.match(text, at)
        if value is None or name[0].lower() in found:
            raise _bad_disposition()
        found[name[0].lower()] = _ESCAPED.sub(r"\1", value[1]) if value.re is _QUOTED else value[0]
        at = _skip(text, value.end())
    return found


def _skip(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    return at if blanks is None else blanks.end()


def _bad_disposition() -> InvalidInput:
    return InvalidInput(
        "Content-Disposition is malformed",
        subject="content-disposition",
        hint="Write attachment; filename=\"NAME\", or filename*=UTF-8''NAME with percent signs.",
    )


_ACTIVE: Final = frozenset(
    (
        "application/ecmascript",
        "application/javascript",
        "application/pdf",
        "application/wasm",
        "application/x-javascript",
        "application/x-shockwave-flash",
        "application/xml",
        "application/xml-dtd",
        "application/xhtml",
        "message/rfc822",
        "multipart/related",
        "multipart/x-mixed-replace",
        "text/cache-manifest",
        "text/ecmascript",
        "text/html",
        "text/javascript",
        "text/xml",
        "text/xml-external-parsed-entity",
        "text/xsl",
    )
)
"""Types that browsers run, or show with links and scripts in them; and all that end in +xml."""


def is_active(content_type: str) -> bool:
    """Whether a browser would do more with it than show it: then it is handed out as a download."""
    kind = content_type.partition(";")[0].strip(" \t").lower()
    return kind in _ACTIVE or kind.endswith("+xml")


def content_disposition(name: str | None, content_type: str) -> str | None:
    """How a blob is to be treated, and what it is called; None if there is nothing to say."""
    how = "attachment" if is_active(content_type) else "inline"
    if not name:
        return how if how == "attachment" else None
    plain = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in name)
    said = f'{how}; filename="{plain}"'
    return said if plain == name else f"{said}; filename*=UTF-8''{quote(name, safe='')}"
