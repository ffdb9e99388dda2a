"""The bucket that environment variables name: ours, MinIO's, and those of AWS that its own tools read too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from graviton.assembly.environment import Reader
from graviton.assembly.proxies import proxy_to
from graviton.backends.objectstore.config import Addressing, Credentials, S3Config, S3Encryption, SseMode
from graviton.core.locators import DEFAULT_BLOCK_PREFIX
from graviton.core.secret import Secret
from graviton.errors import ConfigError, InvalidInput

__all__ = ["DEFAULT_BUCKET", "endpoint_variable", "s3_settings"]

DEFAULT_BUCKET = "graviton-blocks"

_VARIABLES = {
    "bucket": "GRAVITON_S3_BLOCK_BUCKET",
    "prefix": "GRAVITON_S3_BLOCK_PREFIX",
    "region": "GRAVITON_S3_REGION",
    "addressing": "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "access_key": "MINIO_ROOT_USER",
    "secret_key": "MINIO_ROOT_PASSWORD",
    "encryption": "AWS_SERVER_SIDE_ENCRYPTION",
}
"""Where the parts of an `S3Config` come from, for messages; the endpoint: see `endpoint_variable`."""

_ENDPOINTS = ("QUASAR_MINIO_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""The first that is set counts."""


def endpoint_variable(get: Reader, backend: str) -> str:
    """The name of the variable that the address of the server comes from; the first one if none is set."""
    names = _ENDPOINTS[:1] if backend == "minio" else _ENDPOINTS
    return next((name for name in names if get.value(name, str, "")), _ENDPOINTS[0])


def s3_settings(get: Reader, backend: str) -> S3Config:
    """The bucket of GRAVITON_BLOB_BACKEND `backend`, s3 or minio, and the proxy on the way to it. Raises ConfigError
    naming the variable."""
    names = _VARIABLES | {"endpoint": endpoint_variable(get, backend)}
    endpoint = get.value(names["endpoint"], str, "")
    if backend == "minio":
        for name in ("QUASAR_MINIO_URL", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"):
            if not get.value(name, str, ""):
                raise _missing(name, backend)
    try:
        config = S3Config(
            get.value("GRAVITON_S3_BLOCK_BUCKET", str, DEFAULT_BUCKET),
            get.value("GRAVITON_S3_BLOCK_PREFIX", str, DEFAULT_BLOCK_PREFIX),
            get.value("GRAVITON_S3_REGION", str, "us-east-1"),
            endpoint,
            _credentials(get, backend),
            get.value("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", _addressing, Addressing.AUTO),
            get.value("AWS_CA_BUNDLE", Path, None),
            _encryption(get),
        )
    except ConfigError as error:
        if error.subject not in names:
            raise
        name = names[error.subject]
        raise ConfigError(f"{name}: {error.message}", operation="configure", subject=name, hint=error.hint) from error
    return replace(config, proxy=proxy_to(config.address))


def _credentials(get: Reader, backend: str) -> Credentials | None:
    """MinIO's names, if they are set; else AWS's own ways find them."""
    user, password = get.value("MINIO_ROOT_USER", str, ""), get.value("MINIO_ROOT_PASSWORD", str, "")
    if bool(user) != bool(password):
        raise _missing("MINIO_ROOT_PASSWORD" if user else "MINIO_ROOT_USER", backend)
    return Credentials(user, Secret(password)) if user else None


def _encryption(get: Reader) -> S3Encryption:
    """By the names that other programs on the same driver use."""
    modes = tuple(mode.value for mode in SseMode if mode.value)
    mode = SseMode(get.choice("AWS_SERVER_SIDE_ENCRYPTION", modes, ""))
    key = get.value("AWS_SSE_KMS_KEY_ID", str, "")
    return S3Encryption(mode, key, get.value("AWS_SSE_BUCKET_KEY_ENABLED", _is_true, False))


def _addressing(text: str) -> Addressing:
    return Addressing.VIRTUAL if _is_true(text) else Addressing.PATH


def _is_true(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise InvalidInput(f"{text[:40]!r} is neither true nor false")
    return text.lower() in ("true", "1")


def _missing(name: str, backend: str) -> ConfigError:
    return ConfigError(
        f"GRAVITON_BLOB_BACKEND={backend} needs {name}, and it is not set",
        operation="configure",
        subject=name,
        hint="MinIO and its relatives need QUASAR_MINIO_URL=http://HOST:PORT, MINIO_ROOT_USER and MINIO_ROOT_PASSWORD.",
    )
