"""Runs a contract without a test framework: `graviton store check` uses it on a live store."""

from __future__ import annotations

import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from graviton.errors import ConfigError
from graviton.ports.capabilities import Capabilities
from graviton.testing.conformance.contract import Contract, laws_of, skip_reason

__all__ = ["LawResult", "Outcome", "bind", "run_contract", "run_laws"]

_S = TypeVar("_S")


class Outcome(Enum):
    """How one law ended."""

    KEPT = "kept"
    BROKEN = "broken"
    SKIPPED = "skipped"
    KNOWN_GAP = "known_gap"


class LawResult(NamedTuple):
    """One law on one store."""

    contract: str
    law: str
    outcome: Outcome
    reason: str = ""
    """Why it was skipped or is a known gap, or what went wrong: the failing line and its error."""
    seconds: float = 0.0


def bind(
    contract: type[Contract[_S]],
    make_store: Callable[[str, Path], _S | Awaitable[_S]],
    capabilities: Capabilities | None = None,
    tear_down: Callable[[str], Awaitable[None]] | None = None,
) -> type[Contract[_S]]:
    """A contract for a live store. `make_store(space, scratch)` opens it in a scratch space of that name: the same for
    all calls of one law, another for every law; `tear_down(space)` removes that space."""

    def made(self: Contract[_S]) -> _S | Awaitable[_S]:
        return make_store(self.space, self.scratch)

    async def removed(self: Contract[_S]) -> None:
        if tear_down is not None:
            await tear_down(self.space)

    members = {"make_store": made, "tear_down": removed, "capabilities": capabilities}
    return type(f"Live{contract.__name__}", (contract,), members)


async def run_contract(
    contract: type[Contract[Any]], scratch: Path, only: Collection[str] | None = None
) -> list[LawResult]:
    """Run every law, or those named in `only`, each in a folder of its own below `scratch`. Never raises for a broken
    law."""
    return [result async for result in run_laws(contract, scratch, only)]


async def run_laws(
    contract: type[Contract[Any]], scratch: Path, only: Collection[str] | None = None
) -> AsyncIterator[LawResult]:
    """As `run_contract`, one result at a time. Raises ConfigError under `python -O`, which removes the checks."""
    if not __debug__:
        raise ConfigError("the conformance laws are assertions, and python -O removes those", hint="Run without -O.")
    for name in laws_of(contract):
        if only is not None and name not in only:
            continue
        reason = skip_reason(contract, name)
        if reason is not None:
            yield LawResult(contract.__name__, name, Outcome.SKIPPED, reason)
        else:
            yield await _run_law(contract, name, scratch / name)


async def _run_law(contract: type[Contract[Any]], name: str, scratch: Path) -> LawResult:
    scratch.mkdir(parents=True)  # noqa: ASYNC240 - one folder, before anything runs
    run = contract()
    gap = contract.known_gaps.get(name)
    begun = time.monotonic()
    try:
        async with run.running(scratch):
            await getattr(run, name)()
    except Exception as error:  # noqa: BLE001 - whatever a broken store raises is the result
        outcome, reason = (Outcome.BROKEN, _describe(error)) if gap is None else (Outcome.KNOWN_GAP, gap)
    else:
        outcome, reason = Outcome.KEPT, ""
        if gap is not None:  # as strict as under pytest: a gap that is closed must leave the list
            outcome, reason = Outcome.BROKEN, f"kept, but listed as a known gap: {gap}"
    return LawResult(contract.__name__, name, outcome, reason, time.monotonic() - begun)


def _describe(error: Exception) -> str:
    """The line of the law that failed, and the error: plain assertions carry no message of their own."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "conformance" in frame.filename and not frame.filename.endswith("runner.py")]
    frame = inside[-1] if inside else frames[-1]
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{Path(frame.filename).name}:{frame.lineno}: {frame.line}: {what}"
