"""Blocks at Google and Azure whose credentials are missing: told in their own words, and none of S3's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graviton.backends.objectstore import cloud
from graviton.backends.objectstore.blocks import ObjectBlockStore
from graviton.backends.objectstore.cloud import cloud_block_store
from graviton.errors import ConfigError, GravitonError, PermissionDenied, Unavailable
from graviton.testing.conformance.block_values import block
from tests.unit.objectstore.canned import answer, serving

pytestmark = pytest.mark.s3

VARIABLE = {"gs": "GOOGLE_APPLICATION_CREDENTIALS", "az": "AZURE_STORAGE_ACCOUNT_NAME"}
OF_S3 = ("MINIO", "AWS_", "S3", "docs/guides/s3.md")


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, and no patience."""
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "AZURE_", "GCE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cloud, "_RETRY_SECONDS", 0.0)


def check(error: GravitonError, scheme: str) -> None:
    assert VARIABLE[scheme] in error.hint
    assert not any(word in f"{error} {error.hint}" for word in OF_S3)


def store_at(scheme: str, service: str, monkeypatch: pytest.MonkeyPatch) -> ObjectBlockStore:
    """One whose machine asks `service` for keys."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "anybody")
    monkeypatch.setenv("AZURE_MSI_ENDPOINT", f"{service}/token")
    monkeypatch.setenv("GCE_METADATA_HOST", service.removeprefix("http://"))
    monkeypatch.setenv("GCE_METADATA_IP", service.removeprefix("http://"))
    return cloud_block_store(f"{scheme}://some-bucket/prefix")


@pytest.mark.parametrize("scheme", VARIABLE)
@pytest.mark.parametrize(("status", "kind"), [(404, PermissionDenied), (403, PermissionDenied), (503, Unavailable)])
async def test_machine_that_gives_no_keys_is_no_absence(
    scheme: str, status: int, kind: type[GravitonError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(answer(status)) as service:
        store = store_at(scheme, service, monkeypatch)
        for call in (store.get(block(b"x").key), store.exists(block(b"x").key), store.put_blocks([block(b"x")])):
            with pytest.raises(kind, match=f"service that gives .* says {status}") as told:
                await call
            check(told.value, scheme)
        await store.aclose()


@pytest.mark.parametrize("scheme", VARIABLE)
async def test_machine_without_a_service_that_gives_keys(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_at(scheme, "http://127.0.0.1:1", monkeypatch)
    with pytest.raises(Unavailable, match="cannot be reached") as told:
        await store.get(block(b"x").key)
    check(told.value, scheme)
    await store.aclose()


def test_account_that_is_not_named() -> None:
    with pytest.raises(ConfigError, match="Azure Blob Storage") as told:
        cloud_block_store("az://container/prefix")
    check(told.value, "az")


def test_file_of_an_account_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")
    with pytest.raises(ConfigError, match="/no/such/file") as told:
        cloud_block_store("gs://bucket/prefix")
    check(told.value, "gs")
