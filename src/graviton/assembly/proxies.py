"""The proxy that the machine's environment puts on the way to a server.

Drivers that look for one by themselves do not look at the same: one follows ALL_PROXY and knows ranges of addresses in
NO_PROXY, another does not. So it is looked for here, once for all backends, and they are told.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from graviton.core.proxy import Proxy
from graviton.errors import ConfigError, InvalidInput

__all__ = ["proxy_to"]


def proxy_to(address: str) -> Proxy | None:
    """The proxy through which to go to `address`: that of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or of the settings of
    the system where it has some, unless NO_PROXY names the host. Raises ConfigError, repeating nothing of it, for one
    that cannot be used."""
    from urllib.request import getproxies, proxy_bypass  # 15 ms, for who goes over a network

    to = urlsplit(address)
    if proxy_bypass(to.netloc):
        return None
    known = getproxies()
    found = known.get(to.scheme) or known.get("all") or ""
    if not found:
        return None
    if "://" not in found:
        found = f"http://{found.removeprefix('//')}"
    try:
        return Proxy(found)
    except InvalidInput:
        raise ConfigError(
            "the proxy that the environment names is not of the kind http://HOST:PORT",
            operation="configure",
            subject=f"{to.scheme.upper()}_PROXY",
            hint=f"Correct HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or have NO_PROXY name {to.hostname}.",
        ) from None
