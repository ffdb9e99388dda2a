"""Proxies: both drivers go where they are told, whatever the environment says, and nothing tells of a password."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable

import pytest

from graviton.core.proxy import Proxy
from graviton.errors import Unavailable
from tests.unit.objectstore.canned import ETAG, answer, driver_of, listening, settings

pytestmark = pytest.mark.s3

Handle = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]

NOBODY = "http://127.0.0.1:9"
VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


@pytest.mark.parametrize("proxied", [True, False])
@pytest.mark.parametrize("excluded", ["", "127.0.0.1", "127.0.0.0/8", "*"])
async def test_both_drivers_go_where_they_are_told(
    proxied: bool, excluded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself each follows some of these variables."""
    seen: list[str] = []

    def named(name: str) -> Handle:
        async def handle(head: bytes, writer: asyncio.StreamWriter) -> None:
            seen.append(name)
            writer.write(answer(200, ETag=ETAG, Last_Modified="Thu, 26 Nov 2026 05:07:09 GMT"))
            writer.close()

        return handle

    for name in VARIABLES:
        monkeypatch.setenv(name, NOBODY)
    monkeypatch.setenv("NO_PROXY", excluded)
    async with listening(named("proxy")) as proxy, listening(named("server")) as server:
        driver = driver_of(settings(server, proxy=Proxy(proxy) if proxied else None))
        await driver.put("k", b"x", "it")
        assert await driver.exists("k", "it")
        await driver.aclose()
    assert seen == ["proxy" if proxied else "server"] * 2


async def test_password_of_a_proxy_is_never_shown() -> None:
    driver = driver_of(settings(NOBODY, proxy=Proxy("http://me:hidden@127.0.0.1:9")))
    for ask in (driver.put("k", b"x", "it"), driver.exists("k", "it")):
        with pytest.raises(Unavailable) as told:
            await ask
        assert "hidden" not in "".join(traceback.format_exception(told.value))
    await driver.aclose()
