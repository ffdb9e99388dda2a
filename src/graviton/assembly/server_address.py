"""Where the server is that somebody wants to use, and the token for it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from graviton.core.secret import Secret

if TYPE_CHECKING:
    from graviton.backends.http import HttpConfig

__all__ = ["exposure", "is_server", "server_at"]


def is_server(text: str) -> bool:
    """Whether an address is that of a server: http:// or https://, in whatever case."""
    return text.partition("://")[0].lower() in ("http", "https") and "://" in text


def server_at(url: str, token: str | Secret | None) -> HttpConfig:
    """The server at `url`. Raises ConfigError for a malformed address or token, repeating neither."""
    from graviton.backends.http import HttpConfig

    return HttpConfig(url, token if isinstance(token, Secret) or token is None else Secret(token))


def exposure(server: HttpConfig) -> str:
    """A warning where the token goes over a network as everybody can read it; empty where it does not."""
    if server.token is None or server.is_encrypted or server.host.lower() == "localhost":
        return ""
    try:
        if ipaddress.ip_address(server.host).is_loopback:
            return ""
    except ValueError:
        pass  # a name
    return f"the token goes to {server.host} unencrypted: use https, or a tunnel"
