"""The two drivers, set up from one `S3Config`: their own retries off, credentials from one chain.

`obstore` moves blocks without the interpreter lock. `botocore` has what it lacks: multipart uploads that can be
steered, buckets, listings by any prefix, answers that are looked at. Both are imported when they are first used.

Each takes settings of its own from the environment and from the profile, an address among them. So everything is said
to both, and what cannot be said is refused: they must not go to different servers.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from graviton._version import __version__
from graviton.backends.objectstore._authorities import certificates, system_authorities
from graviton.backends.objectstore._bounded_session import BoundedSession
from graviton.backends.objectstore._credentials import ChainCredentials, aws_session, checked_keys
from graviton.backends.objectstore.config import S3Config, S3Encryption, SseMode
from graviton.errors import ConfigError

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from obstore.store import ClientConfig, S3Store
    from obstore.store import S3Config as DriverConfig

__all__ = ["data_store", "encryption_arguments", "s3_client", "setting_up"]

_AGENT: Final = f"graviton/{__version__}"

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
                credential_provider=ChainCredentials(aws_session(config)),
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

        session = aws_session(config)
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
    client.meta.events.register("before-sign.s3", lambda **_: checked_keys(session))
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
