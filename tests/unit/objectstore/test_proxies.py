"""Proxies: both drivers go the same way, and nothing tells of a password."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable

import pytest

from graviton.backends.objectstore.clients import data_store, s3_client
from graviton.errors import ConfigError, Unavailable
from tests.unit.objectstore.canned import ETAG, answer, driver_of, listening, settings

pytestmark = pytest.mark.s3

Handle = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


PROXIES = [
    ({"HTTP_PROXY": "PROXY"}, True),
    ({"http_proxy": "PROXY"}, True),
    ({"ALL_PROXY": "PROXY"}, True),
    ({"all_proxy": "PROXY", "http_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}, False),
    ({"ALL_PROXY": "PROXY", "NO_PROXY": "*"}, False),
    ({"HTTPS_PROXY": "PROXY"}, False),
    ({"ALL_PROXY": "PROXY", "NO_PROXY": "127.0.0.0/8"}, True),
]


@pytest.mark.parametrize(("variables", "proxied"), PROXIES)
async def test_both_drivers_go_the_same_way(
    variables: dict[str, str], proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself one follows ALL_PROXY, and knows ranges of addresses in NO_PROXY."""
    seen: list[str] = []

    def named(name: str) -> Handle:
        async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
            seen.append(name)
            writer.write(answer(200, ETag=ETAG, Last_Modified="Thu, 26 Nov 2026 05:07:09 GMT"))
            writer.close()

        return handle

    async with listening(named("proxy")) as proxy, listening(named("server")) as server:
        for name, value in variables.items():
            monkeypatch.setenv(name, value.replace("PROXY", proxy))
        driver = driver_of(settings(server))
        await driver.put("k", b"x", "it")
        assert await driver.exists("k", "it")
        await driver.aclose()
    assert seen == ["proxy" if proxied else "server"] * 2


@pytest.mark.parametrize("proxy", ["socks5://me:hidden@127.0.0.1:9", "http://me:hidden@127.0.0.1:port", "http://"])
async def test_proxy_that_no_driver_can_use_is_refused(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    for make in (data_store, lambda config: s3_client(config, 1)):
        with pytest.raises(ConfigError, match="proxy") as told:
            make(settings("http://127.0.0.1:9"))
        assert "hidden" not in f"{told.value} {told.value.hint}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    data_store(settings("http://127.0.0.1:9"))


async def test_password_of_a_proxy_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://me:hidden@127.0.0.1:9")
    driver = driver_of(settings("http://127.0.0.1:9"))
    for ask in (driver.put("k", b"x", "it"), driver.exists("k", "it")):
        with pytest.raises(Unavailable) as told:
            await ask
        assert "hidden" not in "".join(traceback.format_exception(told.value))
    await driver.aclose()
