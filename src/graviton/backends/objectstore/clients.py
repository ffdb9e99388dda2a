"""The two drivers, set up from one `S3Config`: their own retries off, credentials from one chain, secrets only inside.

`obstore` moves blocks without the interpreter lock. `botocore` has what it lacks: multipart uploads that can be
steered, buckets, listings by any prefix, answers that are looked at. Both are imported when they are first used.

Each takes settings of its own from the environment and from the profile, an address among them. So everything is said
to both, and what cannot be said is refused: they must not go to different servers.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from graviton._version import __version__
from graviton.backends.objectstore._authorities import certificates, system_authorities
from graviton.backends.objectstore._bounded_session import BoundedSession
from graviton.backends.objectstore._driver_answers import MalformedKeysError
from graviton.backends.objectstore.config import NO_KEY, S3Config, S3Encryption, SseMode, malformed_key
from graviton.core.clock import SystemClock
from graviton.errors import ConfigError

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.credentials import ReadOnlyCredentials
    from botocore.session import Session
    from obstore.store import ClientConfig, S3Credential, S3Store
    from obstore.store import S3Config as DriverConfig

__all__ = ["data_store", "encryption_arguments", "s3_client", "setting_up"]

_KEEP_CREDENTIALS: Final = timedelta(minutes=5)
"""How long the data driver uses credentials before it asks again. botocore renews those that end 10 to 15 minutes
before they do, so what it gives out is good for longer than this."""

_KEYS_SECONDS: Final = 10.0
"""How long a service that gives keys is waited for, whatever a request for objects may take: it answers in a tenth of a
second. It is asked again as every request is, which by itself it would be several times, a minute each."""

_TALKATIVE: Final = ("botocore.auth", "botocore.endpoint", "botocore.parsers", "botocore.utils")
"""Loggers that write down whole requests and answers at DEBUG, and with them session tokens and the keys of roles."""

_AGENT: Final = f"graviton/{__version__}"

_described: list[Any] = []
"""What botocore has read of its descriptions of S3, which it makes clients from: once per process, not per client. The
second client then takes 6 ms, not 50, and no further memory."""


_PLAIN: Final[dict[str, Any]] = {
    "skip_signature": False,
    "unsigned_payload": False,
    "s3_express": False,
    "request_payer": False,
    "disable_tagging": False,
    "disable_bulk_delete": False,
    "conditional_put": "etag",
    "copy_if_not_exists": "multipart",
    "imdsv1_fallback": False,
}
"""What the driver of blocks would otherwise take from variables (AWS_SKIP_SIGNATURE and so on)."""


def data_store(config: S3Config) -> S3Store:
    """The driver for blocks. Raises ConfigError."""
    with setting_up():
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        _check_environment(config.encryption)
        settings: dict[str, Any] = {
            **_PLAIN,
            "endpoint": config.address,  # it wants the bucket in front, where a server is addressed so
            "aws_endpoint_url_s3": config.address,  # the one that wins
            "region": config.region,
            "virtual_hosted_style_request": config.is_virtual,
            "checksum_algorithm": "SHA256",
            **_encryption(config.encryption),
        }
        try:
            return S3Store(
                config.bucket,
                config=cast("DriverConfig", settings),
                client_options=cast("ClientConfig", _client_options(config)),
                retry_config={"max_retries": 0},
                credential_provider=_Credentials(_session(config)),
            )
        except BaseError as error:
            told = str(error).partition("\n")[0][:300]
            raise ConfigError(f"the driver of S3 refuses its settings: {told}", operation="configure") from None


@contextmanager
def setting_up() -> Iterator[None]:
    """What the drivers say of their settings, and of those they read by themselves, as ConfigError."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"object storage needs drivers that are not installed: {error}",
            operation="configure",
            subject="GRAVITON_BLOB_BACKEND",
            hint="Install them: pip install 'graviton[s3]'.",
        ) from error
    except Exception as error:
        if not type(error).__module__.startswith("botocore"):
            raise
        raise ConfigError(
            f"the settings of AWS cannot be used: {error}",
            operation="configure",
            subject="AWS_PROFILE",
            hint="Look at AWS_PROFILE, AWS_CONFIG_FILE and ~/.aws/config.",
        ) from error


def _check_environment(encryption: S3Encryption) -> None:
    """Raise ConfigError for what the driver of blocks takes from the environment, whatever it is told."""
    said = {
        "AWS_SERVER_SIDE_ENCRYPTION": encryption.mode.value,
        "AWS_SSE_KMS_KEY_ID": encryption.kms_key or encryption.mode is SseMode.NONE,
        "AWS_SSE_BUCKET_KEY_ENABLED": encryption.bucket_key or encryption.mode is not SseMode.KMS,
    }
    for name, is_ours in said.items():
        if os.environ.get(name) and not is_ours:
            raise ConfigError(
                f"{name} is set, and the settings of this store say nothing of it: blocks would be encrypted in another"
                " way than their copies",
                operation="configure",
                subject=name,
                hint="Unset it, or give S3Config the same (S3Encryption).",
            )


def _client_options(config: S3Config) -> dict[str, Any]:
    options: dict[str, Any] = {
        "allow_http": config.server.startswith("http://"),
        "connect_timeout": timedelta(seconds=config.connect_seconds),
        "timeout": timedelta(seconds=config.request_seconds),
        "pool_max_idle_per_host": str(config.max_requests),
        "user_agent": _AGENT,
        **_proxy_options(config),
    }
    if config.ca_file is not None:
        options["root_certificate"] = certificates(config.ca_file)
    return options


_ANY_PROXY: Final = "http://127.0.0.1:9"
"""In place of a proxy; nothing is sent to it."""


def _proxy_options(config: S3Config) -> dict[str, Any]:
    """Where there is no proxy the driver is told of one that is not for this server, or it looks for itself."""
    if config.proxy is not None:
        return {"proxy_url": config.proxy.reveal()}
    return {"proxy_url": _ANY_PROXY, "proxy_excludes": urlsplit(config.address).hostname}


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
    if config.ca_file is not None:
        certificates(config.ca_file)  # said now, with its name
    with setting_up():
        from botocore.config import Config

        session = _session(config)
        client = session.create_client(
            "s3",
            region_name=config.region,
            endpoint_url=config.server,
            verify=system_authorities() if config.ca_file is None else str(config.ca_file),
            config=Config(
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "virtual" if config.is_virtual else "path"},
                connect_timeout=config.connect_seconds,
                read_timeout=config.request_seconds,
                proxies={} if config.proxy is None else {urlsplit(config.address).scheme: config.proxy.reveal()},
                max_pool_connections=connections,
                # We send a checksum with every body ourselves: as a header, which every server takes, not as a trailer.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                ignore_configured_endpoint_urls=True,
                use_fips_endpoint=False,
                use_dualstack_endpoint=False,
                user_agent_extra=_AGENT,
            ),
        )
    client._endpoint.http_session = BoundedSession(client._endpoint.http_session)  # there is no other way in
    client.meta.events.register("before-call.s3", _follow_no_redirect)
    client.meta.events.register("before-sign.s3", lambda **_: _checked_keys(session))
    client.meta.events.register("before-call.s3.DeleteObjects", _add_md5)
    return client


def _add_md5(params: dict[str, Any], **_: Any) -> None:
    """Older servers want this one of a list of what is to be deleted, and know no other checksum."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()


def _follow_no_redirect(context: dict[str, Any], **_: Any) -> None:
    """Every request has been redirected already, as far as the driver knows. It would look for the region of the bucket
    with requests of its own and go there, without end if all of them are redirected: the other driver refuses, and
    says which setting is wrong."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _session(config: S3Config) -> Session:
    """Where both drivers get their credentials from. Raises ConfigError."""
    from botocore.config import Config
    from botocore.session import get_session

    for name in _TALKATIVE:
        if logging.getLogger(name).level == logging.NOTSET:  # nobody has asked for it by name
            logging.getLogger(name).setLevel(logging.INFO)
    session = get_session()
    if not _described:
        _described.append(session.get_component("data_loader"))
    session.register_component("data_loader", _described[0])
    session.set_default_client_config(  # of those clients that botocore makes itself, to ask for keys
        Config(
            connect_timeout=min(config.connect_seconds, _KEYS_SECONDS),
            read_timeout=min(config.request_seconds, _KEYS_SECONDS),
            retries={"total_max_attempts": 1},
        )
    )
    given = config.credentials
    if given is not None:
        token = None if given.session_token is None else given.session_token.reveal()
        session.set_credentials(given.access_key, given.secret_key.reveal(), token)
    if session.get_config_variable("region") is None:  # for the service that gives the keys of a role
        session.set_config_variable("region", config.region)
    if not config.endpoint and session.get_config_variable("use_fips_endpoint"):
        raise ConfigError(
            "FIPS endpoints are asked for (AWS_USE_FIPS_ENDPOINT), and none is given",
            operation="configure",
            subject="AWS_USE_FIPS_ENDPOINT",
            hint=f"Set AWS_ENDPOINT_URL_S3=https://s3-fips.{config.region}.amazonaws.com.",
        )
    return session


_VARIABLES: Final = {
    "access_key": "AWS_ACCESS_KEY_ID",
    "secret_key": "AWS_SECRET_ACCESS_KEY",
    "session_token": "AWS_SESSION_TOKEN",
}


def _checked_keys(session: Session) -> ReadOnlyCredentials | None:
    """The keys of the moment; None if there are none. Raises MalformedKeysError for those that no server has given: in
    a header they would be repeated by an error."""
    found = session.get_credentials()
    if found is None:
        return None
    keys = found.get_frozen_credentials()
    wrong = malformed_key(keys.access_key, keys.secret_key, keys.token or None)
    if wrong:
        place = _VARIABLES[wrong] if found.method == "env" else f"the {wrong.replace('_', ' ')} ({found.method})"
        raise MalformedKeysError(f"{place} {NO_KEY}")
    return keys


class _Credentials:
    """What the data driver calls, on a thread of its own, when it needs keys."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __call__(self) -> S3Credential:
        from botocore.exceptions import NoCredentialsError

        keys = _checked_keys(self._session)
        if keys is None:
            raise NoCredentialsError()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token or None,
            "expires_at": datetime.fromtimestamp(SystemClock().now_ns() // 1_000_000_000, UTC) + _KEEP_CREDENTIALS,
        }

    def __repr__(self) -> str:
        return "<credentials of the AWS chain>"
