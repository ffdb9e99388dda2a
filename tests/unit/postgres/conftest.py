"""A database in a schema of its own; tests that need more of it have fixtures of the same names."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.postgres_databases import Watched, fresh_schema, opened


@pytest.fixture
async def schema() -> AsyncIterator[str]:
    async with fresh_schema() as made:
        yield made


@pytest.fixture
async def database(schema: str) -> AsyncIterator[Watched]:
    async with opened(schema) as (made,):
        yield made
