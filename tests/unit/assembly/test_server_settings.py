from __future__ import annotations

from typing import Any

import pytest

from graviton.assembly.server_settings import ServerSettings, is_loopback, server_settings_from
from graviton.assembly.settings import KNOWN
from graviton.core.secret import Secret
from graviton.errors import ConfigError

TOKEN = "0123456789abcdef"

GOOD: list[tuple[str, str, str, Any]] = [
    ("GRAVITON_HTTP_HOST", "0.0.0.0", "host", "0.0.0.0"),
    ("GRAVITON_HTTP_HOST", "localhost", "host", "127.0.0.1"),
    ("GRAVITON_HTTP_HOST", "[::1]", "host", "::1"),
    ("GRAVITON_HTTP_PORT", "0", "port", 0),
    ("GRAVITON_HTTP_PORT", "65535", "port", 65535),
    ("GRAVITON_HTTP_WORKERS", "4", "workers", 4),
    ("GRAVITON_HTTP_MAX_BLOB_BYTES", "10GiB", "max_blob_bytes", 10 * 1024**3),
    ("GRAVITON_HTTP_UPLOADS", "8", "uploads", 8),
    ("GRAVITON_HTTP_DOWNLOADS", "9", "downloads", 9),
    ("GRAVITON_HTTP_REQUEST_RATE", "100", "request_rate", 100),
    ("GRAVITON_HTTP_REQUEST_RATE", "100/s", "request_rate", 100),
    ("GRAVITON_API_TOKEN", TOKEN, "token", Secret(TOKEN)),
]

BAD = [
    ("GRAVITON_HTTP_HOST", ["example.com", "1.2.3", "0.0.0.0:80", "::1::"]),
    ("GRAVITON_HTTP_PORT", ["65536", "http", "-1", "80.0", "٨٠", "1" * 5000]),
    ("GRAVITON_HTTP_WORKERS", ["0", "65", "two"]),
    ("GRAVITON_HTTP_MAX_BLOB_BYTES", ["0", "much", "-1", "9999999TiB"]),
    ("GRAVITON_HTTP_UPLOADS", ["0", "4097"]),
    ("GRAVITON_HTTP_DOWNLOADS", ["0", "x"]),
    ("GRAVITON_HTTP_REQUEST_RATE", ["0", "fast"]),
    ("GRAVITON_API_TOKEN", ["short", "with blanks in it", "tökentökentökentöken", "a\nb" * 10]),
]


@pytest.mark.parametrize(("name", "text", "field", "value"), GOOD)
def test_variables_become_settings(name: str, text: str, field: str, value: Any) -> None:
    assert getattr(server_settings_from({name: text}), field) == value
    assert name in KNOWN


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD for text in texts])
def test_a_wrong_value_names_its_variable(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        server_settings_from({name: text})
    assert caught.value.subject == name
    assert name in caught.value.message
    assert caught.value.hint or "bytes" in caught.value.message
    if name == "GRAVITON_API_TOKEN":
        assert text not in f"{caught.value.message} {caught.value.hint}"


def test_nothing_is_said_means_this_machine_only() -> None:
    settings = server_settings_from({"GRAVITON_HTTP_PORT": ""})
    assert settings == ServerSettings()
    settings.check()
    assert is_loopback(settings.host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7"])
def test_an_open_door_must_be_asked_for(host: str) -> None:
    with pytest.raises(ConfigError):
        ServerSettings(host=host).check()
    ServerSettings(host=host, insecure=True).check()
    ServerSettings(host=host, token=Secret(TOKEN)).check()


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(server_settings_from({"GRAVITON_API_TOKEN": TOKEN}))


def test_limits_are_shared_by_workers() -> None:
    assert ServerSettings(workers=4).share(64) == 16
    assert ServerSettings(workers=4).share(2) == 1
