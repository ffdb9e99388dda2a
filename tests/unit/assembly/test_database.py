"""Commands about a database, where there is none: they say so, also where its driver is not installed."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import pytest

from graviton.assembly.database import database_status, migrate_database, trim_events
from graviton.assembly.settings import Settings
from graviton.errors import ConfigError


async def trim(settings: Settings) -> None:
    async for _ in trim_events(settings, 0):
        pass


@pytest.mark.parametrize("ask", [database_status, migrate_database, trim])
async def test_without_a_database_and_its_driver(
    ask: Callable[[Settings], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith(("graviton.backends.postgres", "psycopg"))]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("psycopg", "psycopg_pool"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="needs no database") as told:
        await ask(Settings())
    assert "GRAVITON_METADATA=postgres" in told.value.hint
