"""Where the server is that somebody wants to use, and the token for it."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING

from graviton.assembly.proxies import proxy_to
from graviton.core.secret import Secret

if TYPE_CHECKING:
    from graviton.backends.http import HttpConfig

__all__ = ["check_address", "exposure", "is_server", "server_at"]


def is_server(text: str) -> bool:
    """Whether an address is that of a server: http:// or https://, in whatever case."""
    return text.partition("://")[0].lower() in ("http", "https") and "://" in text


def server_at(url: str, token: str | Secret | None) -> HttpConfig:
    """The server at `url`, with the proxy on the way to it. Raises ConfigError for a malformed address, token or proxy,
    repeating none of them."""
    from graviton.backends.http import HttpConfig

    config = HttpConfig(url, token if isinstance(token, Secret) or token is None else Secret(token))
    return replace(config, proxy=proxy_to(config.base))


def check_address(url: str) -> None:
    """Raises ConfigError, not repeating it, for what cannot be the address of a server."""
    from graviton.backends.http import HttpConfig

    HttpConfig(url)


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
