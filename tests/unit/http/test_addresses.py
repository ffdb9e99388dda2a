"""Addresses and tokens of servers: what is taken, what is refused, and that neither shows a secret."""

from __future__ import annotations

import pytest

import graviton
import graviton.sync
from graviton.assembly.addresses import settings_of
from graviton.assembly.server_address import exposure, is_server, server_at
from graviton.assembly.settings import client_settings_from
from graviton.backends.http import HttpBlobStore, HttpConfig
from graviton.core.secret import Secret
from graviton.errors import ConfigError
from graviton.ports.any_store import AnyStore

SECRET = "not-for-anybody-s-eyes"


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://host", "http://host"),
        ("https://host:8443/", "https://host:8443"),
        ("HTTPS://Host/some/path/", "https://Host/some/path"),
        ("http://[::1]:8081", "http://[::1]:8081"),
        ("http://müller.example", "http://müller.example"),
    ],
)
def test_addresses_of_servers(url: str, base: str) -> None:
    assert HttpConfig(url).base == base
    assert is_server(url)


@pytest.mark.parametrize(
    "url",
    [
        "", "http://", "https:///path", "http:/host", "ftp://host", "host:80", "http://host:x", "http://host:0",
        "http://host:99999", "http://a b", "http://host/\n", "http://host?x=1", "http://host#x", "http://[::1",
        f"http://user:{SECRET}@host", f"http://{SECRET}@host", f"https://:{SECRET}@host/x",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HttpConfig(url)
    assert SECRET not in f"{caught.value.message} {caught.value.hint} {caught.value.subject}"


@pytest.mark.parametrize("token", ["", "two words", "line\nX-Other: 1", "käse", "x" * 5000, "\x00"])
def test_tokens_that_cannot_be_sent_are_refused_without_repeating_them(token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        server_at("http://host", token)
    assert caught.value.subject == "GRAVITON_API_TOKEN"
    assert not token or token not in f"{caught.value.message} {caught.value.hint}"


def test_token_is_in_no_repr() -> None:
    assert SECRET not in repr(server_at("https://host", SECRET))
    settings = settings_of("https://host", None, SECRET)
    assert SECRET not in repr(settings)
    assert settings.server is not None
    assert settings.server.token == Secret(SECRET)


def test_token_in_clear_over_a_network_is_warned_of() -> None:
    for url in ("http://host", "http://10.0.0.1:8081", "http://[2001:db8::1]"):
        assert "unencrypted" in exposure(server_at(url, SECRET))
        assert exposure(server_at(url, None)) == ""
    for url in ("https://host", "http://localhost:8081", "http://127.0.0.1", "http://[::1]:8081"):
        assert exposure(server_at(url, SECRET)) == ""


def test_open_gives_the_store_of_a_server() -> None:
    store = graviton.open("http://127.0.0.1:9", token=SECRET, hash="sha256", chunker="small")
    assert isinstance(store, HttpBlobStore)
    assert isinstance(store, AnyStore)
    with graviton.sync.open("http://127.0.0.1:9") as other:
        assert isinstance(other, graviton.sync.Store)


@pytest.mark.parametrize(
    "options", [{"metadata": "m.sqlite"}, {"cache": "folder"}, {"events": object()}, {"hash": "md5"}, {"chunker": "x"}]
)
def test_what_belongs_to_the_server_is_refused(options: dict[str, object]) -> None:
    with pytest.raises((ConfigError, graviton.InvalidInput)):
        graviton.open("http://127.0.0.1:9", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="token"):
        graviton.open("folder", token=SECRET)


def test_environment_names_a_server() -> None:
    assert client_settings_from({}) is None
    found = client_settings_from(
        {"GRAVITON_URL": "https://host", "GRAVITON_API_TOKEN": SECRET, "GRAVITON_HASH": "sha256"}
    )
    assert found is not None
    assert found.server == HttpConfig("https://host", Secret(SECRET))
    assert found.hash is graviton.HashAlgo.SHA256
    assert found.warnings == ()
    other = client_settings_from({"GRAVITON_URL": "https://host", "GRAVITON_ULR": "x"}, "http://elsewhere")
    assert other is not None
    assert other.server == HttpConfig("http://elsewhere")
    assert any("GRAVITON_ULR" in warning for warning in other.warnings)
    assert isinstance(graviton.open_from_environment({"GRAVITON_URL": "http://127.0.0.1:9"}), HttpBlobStore)


def test_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graviton.backends.http.blobs.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        graviton.open("http://127.0.0.1:9")
    assert "pip install 'graviton[client]'" in caught.value.hint
