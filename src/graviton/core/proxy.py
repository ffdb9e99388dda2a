"""`Proxy`: what stands on the way to a server, as a value."""

from __future__ import annotations

from urllib.parse import urlsplit

from graviton.core.secret import Secret
from graviton.errors import InvalidInput

__all__ = ["Proxy"]


class Proxy(Secret):
    """`http://HOST:PORT` or `https://…` through which to go to a server; a secret, for a password may be in it. Raises
    InvalidInput, repeating nothing of it, for one that no driver can use."""

    __slots__ = ()

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable:
            raise InvalidInput("a proxy is of the kind http://HOST:PORT")
        super().__init__(url)
