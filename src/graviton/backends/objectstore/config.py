"""`S3Config`: which bucket, at which server, as whom, and how hard to work on it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from graviton.core.locators import DEFAULT_BLOCK_PREFIX, CasLocatorStrategy
from graviton.core.policies import MAX_PART_BYTES, MIN_PART_BYTES
from graviton.core.proxy import Proxy
from graviton.core.secret import Secret
from graviton.errors import ConfigError, InvalidInput

__all__ = [
    "MAX_COPY_BYTES",
    "NO_KEY",
    "Addressing",
    "Credentials",
    "S3Config",
    "S3Encryption",
    "SseMode",
    "malformed_key",
]

MAX_COPY_BYTES: Final = 5 * 1024**3
"""5 GiB: what S3 copies in one request. https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html"""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""
_REGION = re.compile(r"[a-zA-Z0-9-]{1,64}", re.ASCII)
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII | re.IGNORECASE)
"""https://datatracker.ietf.org/doc/html/rfc1123#section-2; both drivers refuse others, one of them by a panic."""
_KEY = re.compile(r"[!-~]{1,8192}", re.ASCII)
"""What goes into a header, or makes no signature that anybody would take. Session tokens have up to a few KB."""

NO_KEY: Final = "is empty or has a space, a line end or another character in it that no key has"


class Addressing(Enum):
    """Where a request names the bucket."""

    AUTO = "auto"
    """In the path at an endpoint of one's own, in the host's name at AWS, where no certificate covers a bucket with
    dots: in the path again."""
    PATH = "path"
    VIRTUAL = "virtual"


class SseMode(Enum):
    """Server-side encryption; the values are those of the header."""

    NONE = ""
    """Whatever the bucket does by itself."""
    S3 = "AES256"
    KMS = "aws:kms"
    KMS_TWICE = "aws:kms:dsse"


@dataclass(frozen=True, slots=True)
class S3Encryption:
    """How the server encrypts what is written, copies and parts included."""

    mode: SseMode = SseMode.NONE
    kms_key: str = ""
    """Id, alias or ARN of a customer-managed key; empty: AWS's own. It is a name, no secret."""
    bucket_key: bool = False
    """Derive object keys from one key of the bucket: fewer requests to KMS, for which one pays."""

    def __post_init__(self) -> None:
        kms = self.mode in (SseMode.KMS, SseMode.KMS_TWICE)
        if self.kms_key and not kms:
            raise _wrong("encryption", "a KMS key is given, and the mode of encryption does not use KMS")
        if self.bucket_key and self.mode is not SseMode.KMS:
            raise _wrong("encryption", "a bucket key is for aws:kms only")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key pair given by hand, in place of what the AWS chain finds."""

    access_key: str
    """A name, no secret."""
    secret_key: Secret
    session_token: Secret | None = None

    def __post_init__(self) -> None:
        token = None if self.session_token is None else self.session_token.reveal()
        wrong = malformed_key(self.access_key, self.secret_key.reveal(), token)
        if wrong:
            hint = "Look at the end of the file or variable it comes from."
            raise _wrong(wrong, f"the {wrong.replace('_', ' ')} of the S3 server {NO_KEY}", hint)


def malformed_key(access_key: str, secret_key: str, session_token: str | None) -> str:
    """Which of them, as `Credentials` calls it, is none that a server could have given; empty if none is."""
    keys = {"access_key": access_key, "secret_key": secret_key, "session_token": session_token}
    return next((name for name, key in keys.items() if key is not None and not _KEY.fullmatch(key)), "")


@dataclass(frozen=True, slots=True)
class S3Config:
    """Settings of one bucket; a value out of bounds raises ConfigError."""

    bucket: str
    prefix: str = DEFAULT_BLOCK_PREFIX
    """Path below which blocks lie, without a slash at either end."""
    region: str = "us-east-1"
    endpoint: str = ""
    """`https://HOST[:PORT]` or `http://…` of a server that is not AWS's; empty: AWS, by region."""
    credentials: Credentials | None = None
    """None: environment, profile, web identity, container or instance role, in AWS's order."""
    addressing: Addressing = Addressing.AUTO
    ca_file: Path | None = None
    """PEM file of the certificate authorities to trust. The system's count for blocks only then: objects, listings and
    deletes ask those of the file alone, so it names every one that the server needs."""
    encryption: S3Encryption = S3Encryption()
    max_requests: int = 16
    """Requests of one store at the same time, 1 to 256."""
    max_request_bytes: int = 64 * 1024 * 1024
    """Payload bytes in requests at the same time; one larger request goes alone. At least 1 MiB."""
    part_bytes: int = 8 * 1024 * 1024
    """Smallest part of a multipart upload; a large object has larger ones, because S3 takes at most 10,000."""
    parallel_parts: int = 4
    """Parts of one upload that are on their way at once, 1 to 64; each is in memory."""
    copy_part_bytes: int = MAX_COPY_BYTES
    """A larger object is copied in parts of so many bytes, 5 MiB to 5 GiB."""
    connect_seconds: float = 5.0
    request_seconds: float = 60.0
    """For a block with its request, 16 MiB need 2.3 Mbit/s to make it; for the answer to any other, from the last byte
    that was sent."""
    retry_seconds: float = 30.0
    """For how long a request is tried again in all, from its first failure on, 0 to 3,600."""
    proxy: Proxy | None = None
    """What both drivers go through to `address`; None: straight there, whatever proxies the environment names."""
    where: str = field(init=False, default="")
    """The place for people: `s3://BUCKET/PREFIX`, with the endpoint if it has one."""

    def __post_init__(self) -> None:
        if "@" in self.bucket or ":" in self.bucket:
            raise _wrong("bucket", "the bucket has a user or keys in it", "Keys are settings of their own.")
        if not _BUCKET.fullmatch(self.bucket):
            raise _wrong("bucket", f"a bucket has 3 to 63 of a-z 0-9 . -, not {self.bucket[:80]!r}")
        if not _REGION.fullmatch(self.region):
            raise _wrong("region", f"{self.region[:80]!r} is not a region")
        try:
            CasLocatorStrategy("s3", self.bucket, self.prefix)
        except InvalidInput as error:
            raise _wrong("prefix", str(error)) from error
        is_address = _check_endpoint(self.endpoint)
        if is_address and self.addressing is Addressing.VIRTUAL:
            text = "the server has no name, only an address, in front of which no bucket can be named"
            raise _wrong("addressing", text, "Give its name, or let the bucket be named in the path.")
        _bounded("max_requests", self.max_requests, 1, 256)
        _bounded("max_request_bytes", self.max_request_bytes, 1024 * 1024, 1 << 40)
        _bounded("part_bytes", self.part_bytes, MIN_PART_BYTES, MAX_PART_BYTES)
        _bounded("parallel_parts", self.parallel_parts, 1, 64)
        _bounded("copy_part_bytes", self.copy_part_bytes, MIN_PART_BYTES, MAX_COPY_BYTES)
        _bounded("connect_seconds", self.connect_seconds, 0.001, 3600)
        _bounded("request_seconds", self.request_seconds, 0.001, 3600)
        _bounded("retry_seconds", self.retry_seconds, 0, 3600)
        place = f"s3://{self.bucket}/{self.prefix}"
        object.__setattr__(self, "where", f"{place} at {self.endpoint}" if self.endpoint else place)

    @property
    def is_virtual(self) -> bool:
        """Whether the bucket is part of the host's name."""
        if self.addressing is Addressing.AUTO:
            return not self.endpoint and "." not in self.bucket
        return self.addressing is Addressing.VIRTUAL

    @property
    def server(self) -> str:
        """The address of the server, without the bucket and without a slash at its end. Both drivers get this one: left
        to themselves, each takes others from the environment."""
        if self.endpoint:
            return self.endpoint.rstrip("/")
        return f"https://s3.{self.region}.amazonaws.com{'.cn' if self.region.startswith('cn-') else ''}"

    @property
    def address(self) -> str:
        """Where requests for the bucket go: the server, the bucket in front where it is part of the host's name."""
        if not self.is_virtual:
            return self.server
        scheme, _, host = self.server.partition("://")
        return f"{scheme}://{self.bucket}.{host}"


def _check_endpoint(endpoint: str) -> bool:
    """Whether the host is an IP address. Nothing of a wrong one is told but the part that is wrong: it may hold a
    password."""
    if not endpoint:
        return False
    hint = "Write https://HOST:PORT, or http://HOST:PORT for a server without TLS."
    try:
        parts = urlsplit(endpoint)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        raise _wrong("endpoint", "the address of the S3 server is malformed", hint) from None
    if not endpoint.startswith(("http://", "https://")) or not parts.hostname:
        raise _wrong(
            "endpoint", "the address of the S3 server does not begin with https:// or http:// and a host", hint
        )
    if parts.username is not None or parts.password is not None:
        raise _wrong("endpoint", "the address of the S3 server has a user in it: keys are settings of their own", hint)
    # urlsplit takes line ends away, and a lone ? or #
    is_plain = re.fullmatch(r"[!-~]+", endpoint) is not None and not set("?#") & set(endpoint)
    if parts.path not in ("", "/") or not port_is_one or not is_plain:
        raise _wrong("endpoint", "the address of the S3 server has more than a host and a port", hint)
    return _check_host(parts, hint)


def _check_host(parts: SplitResult, hint: str) -> bool:
    try:
        ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        if "[" in parts.netloc or not _HOST.fullmatch(parts.hostname or ""):
            raise _wrong("endpoint", "the host of the S3 server has other characters than a-z 0-9 . -", hint) from None
        return False
    return True


def _bounded(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise _wrong(name, f"{name} is {low} to {high}, not {value}")


def _wrong(name: str, text: str, hint: str = "") -> ConfigError:
    return ConfigError(text, operation="configure", subject=name, hint=hint)
