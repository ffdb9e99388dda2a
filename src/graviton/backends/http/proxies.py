"""The proxy on the way to the server."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from graviton.errors import ConfigError

__all__ = ["proxy_to"]


def proxy_to(address: str) -> str | None:
    """The proxy through which to go to `address`, as `backends/objectstore` finds it: that of HTTP_PROXY, HTTPS_PROXY
    or ALL_PROXY, unless NO_PROXY names the host. Raises ConfigError for one that cannot be used; its text does not
    repeat it, for a password may be in it."""
    to = urlsplit(address)
    if proxy_bypass(to.netloc):
        return None
    known = getproxies()
    proxy = known.get(to.scheme) or known.get("all") or ""
    if not proxy:
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy.removeprefix('//')}"
    try:
        parts = urlsplit(proxy)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigError(
            "the proxy that the environment names is not of the kind http://HOST:PORT",
            operation="configure",
            subject=f"{to.scheme.upper()}_PROXY",
            hint=f"Correct HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or have NO_PROXY name {to.hostname}.",
        )
    return proxy
