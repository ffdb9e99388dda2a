"""The thread pool: how calls end."""

from __future__ import annotations

import asyncio

import pytest

from graviton.backends.filesystem._workers import CancelFlag, WorkerPool
from graviton.errors import Unavailable


@pytest.mark.parametrize(
    ("planned", "kind"),
    [(KeyError("mine"), KeyError), (StopIteration(), RuntimeError), (SystemExit(3), Unavailable)],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
async def test_whatever_a_call_raises_ends_the_call(planned: BaseException, kind: type[Exception]) -> None:
    """A future takes no StopIteration: who waited for one waited for ever."""
    pool = WorkerPool(1, "test")

    def fn(flag: CancelFlag) -> None:
        raise planned

    with pytest.raises(kind) as caught:
        await asyncio.wait_for(pool.run(fn), 10.0)
    assert planned in (caught.value, caught.value.__cause__)
    assert await pool.run(lambda flag: "next") == "next"
    await pool.close()
