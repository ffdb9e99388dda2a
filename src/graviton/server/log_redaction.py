"""Taking secrets out of text that is about to be logged.

The first defence is that nothing logs them: a `Secret` shows asterisks, query strings are left out, and lines have
named fields of ours. This is the second one, for messages and tracebacks that others wrote: known secrets are replaced
wherever they stand, and what stands behind the name of a header or setting that usually has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from graviton.core.secret import Secret

__all__ = ["Redactor"]

_MIN_SECRET_CHARS = 6
"""A shorter secret would also be found in words that are none, and give itself away by that."""

_HIDDEN = "***"

_HEADERS = (
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-amz-security-token",
    "x-amz-server-side-encryption-customer-key",
    "x-api-key",
    "x-auth-token",
)
"""Headers whose whole value is secret, also as ASGI has them: `(b'authorization', b'…')`."""

_WORDS = (
    "password",
    "passwd",
    "pgpassword",
    "secret",
    "token",
    "api[-_]?key",
    "access[-_]?key(?:[-_]?id)?",
    "signature",
)
"""Ends of names of settings and parameters whose value is."""

_BETWEEN = r"""(?:["']\s*[:=,]|\s*[:=])\s*(?:b?["'])?"""

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"""(?i)((?:{"|".join(_HEADERS)}){_BETWEEN})[^"'\r\n]+"""), rf"\1{_HIDDEN}"),
    (re.compile(rf"""(?i)((?:{"|".join(_WORDS)}){_BETWEEN})[^\s"',;&)\]}}]+"""), rf"\1{_HIDDEN}"),
    (re.compile(r"\b((?i:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{12,}"), rf"\1{_HIDDEN}"),
    (re.compile(r"""([a-z]://)[^\s/@"'<>]+@"""), rf"\1{_HIDDEN}@"),
    (re.compile(r"""(://(?:(?!://)[^\s?"'<>])+)\?[^\s"'<>]+"""), rf"\1?{_HIDDEN}"),
)

# Each of them is linear in the length of the text, which others choose.

_SUSPECT = ("authorization", "cookie", "pass", "secret", "token", "key", "signature", "bearer", "basic", "://")
"""Most texts have nothing of this, and pay for one look. Whatever a pattern matches has one of them."""


class Redactor:
    """Takes secrets out of texts; `secrets` are those that this process knows."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        known = {secret.reveal() for secret in secrets}
        longest_first = sorted((text for text in known if len(text) >= _MIN_SECRET_CHARS), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        """The same text, with asterisks for what may be secret."""
        if self._known is not None:
            text = self._known.sub(_HIDDEN, text)
        lowered = text.lower()
        if any(word in lowered for word in _SUSPECT):
            for pattern, replacement in _PATTERNS:
                text = pattern.sub(replacement, text)
        return text
