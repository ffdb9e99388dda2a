"""How contracts run under pytest. In the `conftest.py` beside the contract classes:

    from graviton.testing.pytest_plugin import *  # noqa: F403

Needs pytest-asyncio in auto mode. Laws that do not apply are skipped at collection with the reason; known gaps become
strict expected failures; a backend that cannot be reached skips its contracts, unless it is named in
GRAVITON_REQUIRE_BACKENDS (`s3,postgres`): then they fail.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from graviton.testing.conformance.contract import Contract

__all__ = ["contract_place", "contract_run", "pytest_collection_modifyitems", "required_backends"]

_SUITE = "graviton.testing.conformance"
if _SUITE not in sys.modules:  # too late otherwise; failures then show less, nothing else changes
    pytest.register_assert_rewrite(_SUITE)

_unavailable: dict[type[Any], str | None] = {}


def required_backends() -> set[str]:
    """The backends whose absence is a failure."""
    return {name.strip() for name in os.environ.get("GRAVITON_REQUIRE_BACKENDS", "").split(",") if name.strip()}


def _contract_of(item: pytest.Item) -> type[Contract[Any]] | None:
    from graviton.testing.conformance.contract import Contract

    cls = getattr(item, "cls", None)
    return cls if isinstance(cls, type) and issubclass(cls, Contract) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give laws their skip and xfail marks."""
    from graviton.testing.conformance.contract import skip_reason

    for item in items:
        contract = _contract_of(item)
        if contract is None or not isinstance(item, pytest.Function):
            continue
        law = item.originalname
        reason = skip_reason(contract, law)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))
        elif law in contract.known_gaps:
            item.add_marker(pytest.mark.xfail(reason=contract.known_gaps[law], strict=True))


@pytest.fixture(autouse=True)
def contract_place(request: pytest.FixtureRequest) -> None:
    """Gives every law its place; does nothing for other tests."""
    contract = _contract_of(request.node)
    if contract is None:
        return
    if contract not in _unavailable:
        _unavailable[contract] = contract.unavailable()
    reason = _unavailable[contract]
    if reason is None:
        request.getfixturevalue("contract_run")
    elif contract.backend in required_backends():
        pytest.fail(f"GRAVITON_REQUIRE_BACKENDS names {contract.backend}, but: {reason}", pytrace=False)
    else:
        pytest.skip(reason)


@pytest_asyncio.fixture
async def contract_run(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[None]:
    """The place and the end of one law."""
    async with request.instance.running(tmp_path):
        yield
