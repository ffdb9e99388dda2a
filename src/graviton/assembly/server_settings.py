"""Variables and options of the server as frozen, checked settings: docs/server.md lists them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from graviton.assembly.environment import Reader, parse_path, parse_size
from graviton.constraints.throttle import divided
from graviton.core.limits import MAX_SIZE
from graviton.core.paths import is_plain
from graviton.core.secret import Secret
from graviton.errors import ConfigError, InvalidInput
from graviton.services.uploads.counting import DEFAULT_MAX_OPEN
from graviton.services.uploads.values import DEFAULT_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS

__all__ = ["ServerSettings", "is_loopback", "parse_grace", "parse_port", "parse_workers", "server_settings_from"]

MIN_TOKEN_CHARS = 16
"""96 bits in base64: what nobody guesses over a network."""

MAX_WORKERS = 64
"""More processes than any machine of today has use for: a slip of the finger."""

MAX_SLOTS = 4096
"""Each may hold a quarter of a megabyte that no budget knows."""

MAX_GRACE_SECONDS = 3600

MAX_OPEN_UPLOADS = 1_000_000
"""The sweeper reads all of them every minute, some 100 s by then: more would never be swept."""

_MAX_PORT = 65535
_TOKEN = re.compile(r"[\x21-\x7e]+")


class ServerSettings(NamedTuple):
    """How the server listens, whom it lets in, and how much it does at once. All numbers are those of the whole server;
    with several workers each gets its share."""

    host: str = "127.0.0.1"
    port: int = 8081
    """0 lets the system choose one."""
    token: Secret | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    workers: int = 1
    insecure: bool = False
    """Listen beyond this machine without a token."""
    grace_seconds: float = 30.0
    """How long what runs may go on when the server is told to stop."""
    max_blob_bytes: int = 1024**4
    uploads: int = 64
    """At once."""
    downloads: int = 64
    """At once."""
    request_rate: int | None = None
    """Requests per second, all clients together."""
    upload_lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS
    """Until an unfinished upload goes of which nobody hears."""
    upload_max_open: int = DEFAULT_MAX_OPEN
    """Unfinished uploads at once, those of other servers over the same metadata included."""

    @property
    def uses_tls(self) -> bool:
        """Whether it speaks https."""
        return self.tls_cert is not None

    def check(self) -> None:
        """Raises ConfigError if the settings do not fit together: half of TLS, or an open door."""
        if (self.tls_cert is None) != (self.tls_key is None):
            missing = "GRAVITON_HTTP_TLS_KEY" if self.tls_key is None else "GRAVITON_HTTP_TLS_CERT"
            raise ConfigError(
                f"TLS needs a certificate and its key, and {missing} is not set",
                operation="serve",
                subject=missing,
                hint="Give --tls-cert and --tls-key, PEM files both.",
            )
        if self.token is None and not self.insecure and not is_loopback(self.host):
            raise ConfigError(
                f"without a token the server listens on loopback only, not on {self.host}",
                operation="serve",
                subject="GRAVITON_API_TOKEN",
                hint=f"Set GRAVITON_API_TOKEN ({MIN_TOKEN_CHARS} characters or more), listen on 127.0.0.1, or say"
                " --insecure if everybody who reaches it may read, write and delete everything.",
            )

    def share(self, count: int) -> int:
        """The part of `count` that one worker gets, at least 1."""
        return divided(count, self.workers)


def server_settings_from(environment: Mapping[str, str]) -> ServerSettings:
    """Settings from environment variables. Raises ConfigError naming the variable that is wrong."""
    get = Reader(environment)
    default = ServerSettings()
    return ServerSettings(
        host=get.value("GRAVITON_HTTP_HOST", parse_host, default.host),
        port=get.value("GRAVITON_HTTP_PORT", parse_port, default.port),
        token=get.value("GRAVITON_API_TOKEN", _token, None),
        tls_cert=get.value("GRAVITON_HTTP_TLS_CERT", parse_path, None),
        tls_key=get.value("GRAVITON_HTTP_TLS_KEY", parse_path, None),
        workers=get.value("GRAVITON_HTTP_WORKERS", parse_workers, default.workers),
        max_blob_bytes=get.value("GRAVITON_HTTP_MAX_BLOB_BYTES", _blob_bytes, default.max_blob_bytes),
        uploads=get.value("GRAVITON_HTTP_UPLOADS", _slots, default.uploads),
        downloads=get.value("GRAVITON_HTTP_DOWNLOADS", _slots, default.downloads),
        request_rate=get.value("GRAVITON_HTTP_REQUEST_RATE", _rate, None),
        upload_lifetime_seconds=get.value("GRAVITON_UPLOAD_LIFETIME", _lifetime, default.upload_lifetime_seconds),
        upload_max_open=get.value("GRAVITON_UPLOAD_MAX_OPEN", _max_open, default.upload_max_open),
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_host(text: str) -> str:
    """An address, or `localhost`; a name of another machine cannot be listened on. Raises InvalidInput."""
    if text.lower() == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        raise InvalidInput(
            f"{text[:80]!r} is no address", hint="Write 127.0.0.1, 0.0.0.0, ::1, or the address of an interface."
        ) from None


def parse_port(text: str) -> int:
    """A port; 0 lets the system choose. Raises InvalidInput."""
    return _whole(text, "a port", 0, _MAX_PORT)


def parse_workers(text: str) -> int:
    """A number of processes. Raises InvalidInput."""
    return _whole(text, "a number of workers", 1, MAX_WORKERS)


def parse_grace(text: str) -> float:
    """Whole seconds. Raises InvalidInput."""
    return float(_whole(text, "a number of seconds", 0, MAX_GRACE_SECONDS))


def _slots(text: str) -> int:
    return _whole(text, "a number of requests at once", 1, MAX_SLOTS)


def _lifetime(text: str) -> float:
    return float(_whole(text, "a number of seconds", 1, int(MAX_LIFETIME_SECONDS)))


def _max_open(text: str) -> int:
    return _whole(text, "a number of uploads", 1, MAX_OPEN_UPLOADS)


def _rate(text: str) -> int:
    return _whole(text.removesuffix("/s"), "a number of requests per second", 1, 10**9)


def _whole(text: str, what: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
        raise InvalidInput(f"{text[:40]!r} is not {what}", hint=f"Write a number from {least} to {most}.")
    return int(text)


def _blob_bytes(text: str) -> int:
    size = parse_size(text)
    if not 1 <= size <= MAX_SIZE:
        raise InvalidInput(f"the largest blob has 1 to {MAX_SIZE} bytes, not {size}")
    return size


def _token(text: str) -> Secret:
    """Nothing of the text is told."""
    if not _TOKEN.fullmatch(text) or not is_plain(text):
        raise InvalidInput("a token is printable ASCII without blanks", hint="Make one: openssl rand -base64 24.")
    if len(text) < MIN_TOKEN_CHARS:
        raise InvalidInput(
            f"a token has {MIN_TOKEN_CHARS} characters or more", hint="Make one: openssl rand -base64 24."
        )
    return Secret(text)
