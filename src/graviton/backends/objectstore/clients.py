"""The two drivers, set up from one `S3Config`: their own retries off, credentials from one chain, secrets only inside.

`obstore` moves blocks without the interpreter lock. `botocore` has what it lacks: multipart uploads that can be
steered, buckets, listings by any prefix. Both are imported when they are first used.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from graviton._version import __version__
from graviton.backends.objectstore.config import S3Config, S3Encryption, SseMode
from graviton.core.clock import SystemClock
from graviton.errors import ConfigError

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.session import Session
    from obstore.store import ClientConfig, S3Credential, S3Store
    from obstore.store import S3Config as DriverConfig

__all__ = ["data_store", "encryption_arguments", "s3_client"]

_KEEP_CREDENTIALS: Final = timedelta(minutes=5)
"""How long the data driver uses credentials before it asks again. botocore renews those that end 10 to 15 minutes
before they do, so what it gives out is good for longer than this."""

_TALKATIVE: Final = ("botocore.auth", "botocore.endpoint")
"""Loggers that write down whole requests at DEBUG, and with them the session token."""

_AGENT: Final = f"graviton/{__version__}"

_described: list[Any] = []
"""What botocore has read of its descriptions of S3, which it makes clients from: once per process, not per client. The
second client then takes 6 ms, not 50, and no further memory."""


def data_store(config: S3Config) -> S3Store:
    """The driver for blocks. Raises ConfigError."""
    from obstore.store import S3Store

    settings: dict[str, Any] = {
        "region": config.region,
        "virtual_hosted_style_request": config.is_virtual,
        "checksum_algorithm": "SHA256",
        **_encryption(config.encryption),
    }
    if config.endpoint:
        settings["endpoint"] = _endpoint(config)
    return S3Store(
        config.bucket,
        config=cast("DriverConfig", settings),
        client_options=cast("ClientConfig", _client_options(config)),
        retry_config={"max_retries": 0},
        credential_provider=_Credentials(_session(config)),
    )


def _endpoint(config: S3Config) -> str:
    """The driver wants the bucket in the address of an endpoint that is addressed by host."""
    endpoint = config.endpoint.rstrip("/")
    if not config.is_virtual:
        return endpoint
    scheme, _, host = endpoint.partition("://")
    return f"{scheme}://{config.bucket}.{host}"


def _client_options(config: S3Config) -> dict[str, Any]:
    options: dict[str, Any] = {
        "allow_http": config.endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=config.connect_seconds),
        "timeout": timedelta(seconds=config.request_seconds),
        "pool_max_idle_per_host": str(config.max_requests),
        "user_agent": _AGENT,
    }
    if config.ca_file is not None:
        options["root_certificate"] = _certificates(config)
    return options


def _certificates(config: S3Config) -> bytes:
    assert config.ca_file is not None
    try:
        return config.ca_file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the file of certificate authorities {config.ca_file} cannot be read: {error.strerror}",
            operation="configure",
            subject="AWS_CA_BUNDLE",
        ) from error


def _encryption(encryption: S3Encryption) -> dict[str, str]:
    if encryption.mode is SseMode.NONE:
        return {}
    made = {"server_side_encryption": encryption.mode.value}
    if encryption.kms_key:
        made["sse_kms_key_id"] = encryption.kms_key
    if encryption.bucket_key:
        made["sse_bucket_key_enabled"] = "true"
    return made


def encryption_arguments(encryption: S3Encryption) -> dict[str, Any]:
    """The same for calls of the other driver that write: put, copy, create a multipart upload."""
    if encryption.mode is SseMode.NONE:
        return {}
    made: dict[str, Any] = {"ServerSideEncryption": encryption.mode.value}
    if encryption.kms_key:
        made["SSEKMSKeyId"] = encryption.kms_key
    if encryption.bucket_key:
        made["BucketKeyEnabled"] = True
    return made


def s3_client(config: S3Config, connections: int) -> BaseClient:
    """The driver for objects and buckets; thread-safe. Raises ConfigError."""
    from botocore.config import Config

    for name in _TALKATIVE:
        if logging.getLogger(name).level == logging.NOTSET:  # nobody has asked for it by name
            logging.getLogger(name).setLevel(logging.INFO)
    if config.ca_file is not None:
        _certificates(config)  # said now, with its name
    client = _session(config).create_client(
        "s3",
        region_name=config.region,
        endpoint_url=config.endpoint.rstrip("/") or None,
        verify=None if config.ca_file is None else str(config.ca_file),
        config=Config(
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "virtual" if config.is_virtual else "path"},
            connect_timeout=config.connect_seconds,
            read_timeout=config.request_seconds,
            max_pool_connections=connections,
            # We send a checksum with every body ourselves: as a header, which every server takes, not as a trailer.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            user_agent_extra=_AGENT,
        ),
    )
    client.meta.events.register("before-call.s3", _follow_no_redirect)
    return client


def _follow_no_redirect(context: dict[str, Any], **_: Any) -> None:
    """Every request has been redirected already, as far as the driver knows. It would look for the region of the bucket
    with requests of its own and go there, without end if all of them are redirected: the other driver refuses, and
    says which setting is wrong."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _session(config: S3Config) -> Session:
    """Where both drivers get their credentials from."""
    from botocore.session import get_session

    session = get_session()
    if not _described:
        _described.append(session.get_component("data_loader"))
    session.register_component("data_loader", _described[0])
    given = config.credentials
    if given is not None:
        token = None if given.session_token is None else given.session_token.reveal()
        session.set_credentials(given.access_key, given.secret_key.reveal(), token)
    return session


class _Credentials:
    """What the data driver calls, on a thread of its own, when it needs keys."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self) -> S3Credential:
        from botocore.exceptions import NoCredentialsError

        found = self._session.get_credentials()
        if found is None:
            raise NoCredentialsError()
        keys = found.get_frozen_credentials()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.fromtimestamp(SystemClock().now_ns() // 1_000_000_000, UTC) + _KEEP_CREDENTIALS,
        }

    def __repr__(self) -> str:
        return "<credentials of the AWS chain>"
