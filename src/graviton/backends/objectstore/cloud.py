"""Blocks at Google and Azure, by address: `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`.

Credentials and account come from where these clouds' own tools have them (GOOGLE_APPLICATION_CREDENTIALS,
AZURE_STORAGE_ACCOUNT_NAME, a role).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graviton.backends.objectstore._driver import Driver
from graviton.backends.objectstore.blocks import ObjectBlockStore
from graviton.backends.objectstore.clients import setting_up
from graviton.backends.objectstore.errors import CLOUD_KEYS
from graviton.backends.objectstore.metrics import S3Metrics
from graviton.backends.objectstore.requests import Requests
from graviton.core.locators import DEFAULT_BLOCK_PREFIX, CasLocatorStrategy
from graviton.errors import ConfigError, InvalidInput
from graviton.ports.capabilities import Capabilities
from graviton.ports.events import EventSink
from graviton.ports.metrics import MetricsRegistry

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["SCHEMES", "cloud_block_store"]

SCHEMES = {"gs": "Google Cloud Storage", "az": "Azure Blob Storage"}

_MAX_REQUESTS, _MAX_BYTES, _RETRY_SECONDS = 16, 64 * 1024 * 1024, 30.0
"""As `S3Config` has them."""


def cloud_block_store(
    url: str, *, metrics: MetricsRegistry | None = None, events: EventSink | None = None
) -> ObjectBlockStore:
    """The block store at an address. Nothing is sent yet. Raises ConfigError."""
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme not in SCHEMES or "@" in rest or ":" in bucket or "?" in rest:
        raise ConfigError(
            "an address of a bucket is gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, without keys in it",
            operation="configure",
            subject="address",
        )
    try:
        layout = CasLocatorStrategy(scheme, bucket, prefix.rstrip("/") or DEFAULT_BLOCK_PREFIX)
    except InvalidInput as error:
        raise ConfigError(error.message, operation="configure", subject="address", hint=error.hint) from error
    requests = Requests(
        f"{scheme}://{bucket}",
        max_requests=_MAX_REQUESTS,
        max_bytes=_MAX_BYTES,
        retry_seconds=_RETRY_SECONDS,
        metrics=S3Metrics(metrics, scheme),
    )
    abilities = Capabilities(persistent=True, durable=True, multi_process=True)
    return ObjectBlockStore(Driver(_store(scheme, bucket), requests), layout, abilities, events)


def _store(scheme: str, bucket: str) -> ObjectStore:
    with setting_up():
        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore

    try:
        if scheme == "gs":
            return GCSStore(bucket, retry_config={"max_retries": 0})
        return AzureStore(bucket, retry_config={"max_retries": 0})
    except BaseError as error:
        told = str(error).partition("\n")[0][:300]
        raise ConfigError(
            f"{SCHEMES[scheme]} cannot be used: {told}",
            operation="configure",
            subject="address",
            hint=CLOUD_KEYS[scheme],
        ) from error
