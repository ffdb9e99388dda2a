"""Where a server is, and how patient to be with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from graviton.core.paths import is_plain
from graviton.core.proxy import Proxy
from graviton.core.secret import Secret
from graviton.errors import ConfigError

__all__ = ["MAX_TOKEN_CHARS", "HttpConfig", "check_token"]

MAX_TOKEN_CHARS: Final = 4096
"""Servers refuse longer header fields anyway; a token has some 40."""

_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)
"""What may stand in a header field without being taken apart."""

_HINT = "Write http://HOST:PORT or https://HOST, with the path of the server behind it if it has one."


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """One server; a value out of bounds raises ConfigError."""

    url: str
    """`http://HOST[:PORT][/PATH]` or `https://…`, as given; `base` is its plain form."""
    token: Secret | None = None
    """Sent to this server and to nobody else."""
    connect_seconds: float = 10.0
    idle_seconds: float = 60.0
    """How long the server may neither take nor give a byte; bodies as a whole have no limit."""
    retry_seconds: float = 30.0
    """How long what may pass is tried again; of a transfer, since it last came forward. 0: never."""
    resumable_bytes: int = 16 * 1024 * 1024
    """What is larger, and can be read again from any byte, is uploaded so that it goes on after a break. One request
    more is nothing then; less is sent again sooner than asked for."""
    proxy: Proxy | None = None
    """What to go through to the server; None: straight there, whatever proxies the environment names."""

    def __post_init__(self) -> None:
        self._split()
        if self.token is not None:
            check_token(self.token)
        for name in ("connect_seconds", "idle_seconds"):
            if not 0 < getattr(self, name) <= _MAX_SECONDS:
                raise ConfigError(f"{name} is more than 0 and at most {_MAX_SECONDS}", operation="configure")
        if self.retry_seconds < 0 or self.resumable_bytes < 0:
            raise ConfigError("a time and a size are 0 or more", operation="configure")

    @property
    def base(self) -> str:
        """The address without a slash at its end, for putting a path behind it."""
        parts = self._split()
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody on the way can read what is sent."""
        return self._split().scheme == "https"

    @property
    def host(self) -> str:
        """The name or address of the machine."""
        return self._split().hostname or ""

    def _split(self) -> SplitResult:
        if not self.url[:8].lower().startswith(("http://", "https://")) or not is_plain(self.url):
            raise _wrong("the address of a server begins with http:// or https://, and has no blanks")
        try:
            parts = urlsplit(self.url)
            is_usable = bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
            parts = SplitResult("", "", "", "", "")
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                "an address of a server has no user or password in it: addresses end up in logs",
                operation="configure",
                subject="url",
                hint="Give the server's token as GRAVITON_API_TOKEN, or graviton.open(url, token=…).",
            )
        if not is_usable or parts.query or parts.fragment:
            raise _wrong("the address of the server is malformed")
        return parts


_MAX_SECONDS: Final = 86400


def check_token(token: Secret) -> None:
    """Raise ConfigError unless `token` can be sent as it is; it is not repeated."""
    text = token.reveal()
    if len(text) > MAX_TOKEN_CHARS or not _TOKEN.fullmatch(text):
        raise ConfigError(
            "the token of the server is empty, too long, or has characters in it that cannot be sent",
            operation="configure",
            subject="GRAVITON_API_TOKEN",
            hint="Look at the end of the file or variable it comes from.",
        )


def _wrong(text: str) -> ConfigError:
    return ConfigError(text, operation="configure", subject="url", hint=_HINT)
