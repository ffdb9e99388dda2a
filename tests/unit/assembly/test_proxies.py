"""The proxy that the environment puts on the way: one for every backend, and nothing tells of a password."""

from __future__ import annotations

import pytest

import graviton
from graviton.assembly.addresses import settings_of
from graviton.assembly.proxies import proxy_to
from graviton.assembly.settings import Settings, client_settings_from, settings_from
from graviton.core.proxy import Proxy
from graviton.errors import ConfigError, InvalidInput

PROXY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    """REQUEST_METHOD tells Python that somebody else has made HTTP_PROXY of a request's header."""
    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("variables", "is_used"),
    [
        ({}, False),
        ({"HTTP_PROXY": PROXY}, True),
        ({"http_proxy": PROXY}, True),
        ({"ALL_PROXY": PROXY}, True),
        ({"ALL_PROXY": "127.0.0.1:9"}, True),
        ({"all_proxy": "http://127.0.0.1:8", "http_proxy": PROXY}, True),
        ({"all_proxy": PROXY, "no_proxy": "127.0.0.1"}, False),
        ({"ALL_PROXY": PROXY, "NO_PROXY": "*"}, False),
        ({"HTTPS_PROXY": PROXY}, False),
        ({"ALL_PROXY": PROXY, "NO_PROXY": "127.0.0.0/8"}, True),
    ],
)
def test_variables_name_the_proxy(variables: dict[str, str], is_used: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_to("http://127.0.0.1:8081/path") == (Proxy(PROXY) if is_used else None)


def _proxy(settings: Settings | None) -> Proxy | None:
    assert settings is not None
    config = settings.s3 or settings.server
    assert config is not None
    return config.proxy


def test_settings_of_every_server_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "bucket.s3.eu-west-1.amazonaws.com,near")
    assert _proxy(settings_of("s3://other?region=eu-west-1", "m.sqlite")) == Proxy(PROXY)
    assert _proxy(settings_of("s3://bucket?region=eu-west-1", "m.sqlite")) is None, "the bucket's name is the host's"
    assert _proxy(settings_from({"GRAVITON_BLOB_BACKEND": "s3", "AWS_ENDPOINT_URL_S3": "https://far"})) == Proxy(PROXY)
    assert _proxy(settings_from({"GRAVITON_BLOB_BACKEND": "s3", "AWS_ENDPOINT_URL_S3": "https://near"})) is None
    assert _proxy(client_settings_from({"GRAVITON_URL": "https://far"})) == Proxy(PROXY)
    assert _proxy(settings_of("https://near:8081/path", None)) is None


@pytest.mark.parametrize("proxy", ["socks5://me:hidden@127.0.0.1:9", "http://me:hidden@127.0.0.1:port", "http://"])
def test_proxy_that_no_driver_can_use_is_refused(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput) as refused:
        Proxy(proxy)
    assert "hidden" not in str(refused.value)
    monkeypatch.setenv("ALL_PROXY", proxy)
    for address in ("http://127.0.0.1:9", "s3://bucket?endpoint=http://127.0.0.1:9"):
        with pytest.raises(ConfigError, match="proxy") as told:
            graviton.open(address, metadata=None if address.startswith("http") else "m.sqlite")
        assert "hidden" not in f"{told.value} {told.value.hint}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert proxy_to("http://127.0.0.1:9") is None


def test_password_of_a_proxy_is_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://me:hidden@127.0.0.1:9")
    for settings in (settings_of("http://far", None), settings_of("s3://bucket", "m.sqlite")):
        assert _proxy(settings) is not None
        assert "hidden" not in repr(settings)
