"""Who may come in: the token, requests that web pages make in the name of their visitors, and how many in a second."""

from __future__ import annotations

import hmac
import ipaddress
import re
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from graviton.assembly.server_settings import ServerSettings, is_loopback
from graviton.constraints.throttle import Throttle
from graviton.core.clock import Clock
from graviton.core.secret import Secret
from graviton.errors import InvalidInput, TooManyRequests, Unauthenticated
from graviton.server.http.asgi import Scope, header
from graviton.server.http.errors import Refused

__all__ = ["Gate", "check_path", "host_of", "is_own_host", "presents", "same_origin"]

_DISGUISED: Final = re.compile(rb"%2f|%5c|\\|//|%00", re.IGNORECASE)

OPEN_PATHS: Final = frozenset({"/api/health", "/api/health/ready"})
"""What load balancers ask, who have no token, and must not be told that others ask too much."""

MAX_PATH_BYTES: Final = 4096
"""An id has at most 91; the rest is room for somebody's prefix."""


class Gate:
    """Looks at each request before anything else does."""

    def __init__(self, settings: ServerSettings, clock: Clock) -> None:
        self._token = settings.token
        self._on_loopback = is_loopback(settings.host)
        rate = settings.request_rate
        self._rate = None if rate is None else Throttle(settings.share(rate), clock, full=True)

    def check(self, scope: Scope) -> None:
        """Raises Unauthenticated, Refused, InvalidInput, TooManyRequests."""
        check_path(scope["raw_path"], scope["query_string"])
        _check_coding(header(scope, b"transfer-encoding"))
        is_open = scope["path"] in OPEN_PATHS
        if self._token is None:
            self._check_site(scope)
        elif not is_open and not presents(header(scope, b"authorization"), self._token):
            raise Unauthenticated(
                "this server wants a token", hint="Send Authorization: Bearer TOKEN, with its GRAVITON_API_TOKEN."
            )
        wait = 0.0 if self._rate is None or is_open else self._rate.try_take(1)
        if wait > 0:
            raise TooManyRequests(
                "more requests per second than this server takes",
                hint="Try again when Retry-After says.",
                retry_after_seconds=wait,
            )

    def _check_site(self, scope: Scope) -> None:
        """Without a token a browser on this machine is the way in for every page that it shows: by a name that
        suddenly leads to 127.0.0.1 (DNS rebinding), or by a plain request to it."""
        host = header(scope, b"host") or scope.get("server", ("",))[0] or ""
        if self._on_loopback and not is_own_host(host):
            raise Refused(
                "the Host of this request is none of this machine's names",
                subject=host[:80],
                hint="Use localhost or 127.0.0.1, or give the server a token (GRAVITON_API_TOKEN).",
            )
        origin = header(scope, b"origin")
        if origin is not None and not same_origin(origin, host):
            raise Refused("this request comes from a web page of another site", subject=origin[:80])


def check_path(path: bytes, query: bytes) -> None:
    """Raises InvalidInput for an address that is too long, or that proxies, and rules in them, may read otherwise than
    we do: with a slash in disguise, or with segments that mean nothing or another place. Paths are matched after they
    are decoded; no address of ours has any of these."""
    if len(path) > MAX_PATH_BYTES or len(query) > MAX_PATH_BYTES:
        raise InvalidInput(f"a path and a query have at most {MAX_PATH_BYTES} bytes each", subject="path")
    if _DISGUISED.search(path) or any(segment in (b".", b"..") for segment in unquote_to_bytes(path).split(b"/")):
        raise InvalidInput("a path has no encoded slashes, empty segments or dots", subject="path")


def _check_coding(coding: str | None) -> None:
    """Raises InvalidInput for a body in a coding that nobody takes off it: it would be stored as it is on the way."""
    if coding is not None and coding.strip(" \t").lower() != "chunked":
        raise InvalidInput("no transfer coding but chunked is understood", subject="transfer-encoding")


def presents(authorization: str | None, token: Secret) -> bool:
    """Whether the header holds the token; how long that takes tells nothing about it."""
    scheme, _, given = (authorization or "").partition(" ")
    is_right = hmac.compare_digest(given.strip(" ").encode("latin-1", "replace"), token.reveal().encode())
    return is_right and scheme.lower() == "bearer"


def host_of(text: str) -> str:
    """The name in a Host header, without its port; empty for what is none."""
    try:
        found = urlsplit(f"//{text}")
        port = found.port  # raises for what is none
    except ValueError:
        return ""
    is_plain = found.netloc == text and found.username is None and (port is not None or not text.endswith(":"))
    return (found.hostname or "") if is_plain else ""


def is_own_host(text: str) -> bool:
    """Whether a Host header names this machine by a name that no DNS server can have given: ports are left alone,
    because tunnels change them."""
    name = host_of(text)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def same_origin(origin: str, host: str) -> bool:
    """Whether a page with that Origin was served by this host and port."""
    scheme, separator, place = origin.partition("://")
    return bool(separator) and scheme in ("http", "https") and place.lower() == host.lower() and host_of(host) != ""
