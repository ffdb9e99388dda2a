"""What both drivers are to take from the machine alike: the proxy on the way to a server, and the authorities that
vouch for it.

Each would look for itself, and not at the same: one follows ALL_PROXY, and knows ranges of addresses in NO_PROXY; the
other brings authorities of its own, and reads of others in the profile.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from graviton.errors import ConfigError

__all__ = ["certificates", "proxy_options", "proxy_to", "system_authorities"]

_NO_PROXY: Final = "http://127.0.0.1:9"
"""In place of a proxy; nothing is sent to it."""


def proxy_to(address: str) -> str | None:
    """The proxy through which to go to `address`: that of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or of the settings of
    the system where it has some, unless NO_PROXY names the host. Raises ConfigError for one that a driver cannot use;
    its text does not repeat it, for a password may be in it."""
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


def proxy_options(address: str) -> dict[str, Any]:
    """The same as `obstore` is told it: where there is none, of one that is not for this server, or it looks for
    itself."""
    proxy = proxy_to(address)
    if proxy is not None:
        return {"proxy_url": proxy}
    return {"proxy_url": _NO_PROXY, "proxy_excludes": urlsplit(address).hostname}


def certificates(file: Path) -> bytes:
    """The file of authorities. Raises ConfigError unless it has some."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        return file.read_bytes()
    except OSError as error:
        what = "has none" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
        raise ConfigError(
            f"the file of certificate authorities {file} {what}",
            operation="configure",
            subject="AWS_CA_BUNDLE",
        ) from error


def system_authorities() -> str | bool:
    """The file with those that the system trusts, as `obstore` does (SSL_CERT_FILE names one), for `botocore`; True,
    for those that it brings, where Python's OpenSSL knows of no such file."""
    return ssl.get_default_verify_paths().cafile or True
