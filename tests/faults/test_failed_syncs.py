"""A sync that fails once: what the disk has not got must not carry what is acknowledged later.

The system reports such an error to one caller and calls the lost pages clean, so every later sync succeeds. SQLite
commits on top as if nothing had happened, and of a sync inside a checkpoint that it does by itself it says nothing at
all. Nothing looks wrong until the power goes.
"""

from __future__ import annotations

import errno
import random

import pytest

from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.ports.kv import Durability
from tests.faults.harness.bench import Bench, Place
from tests.faults.harness.power import Call, Disk, Loss, read_log
from tests.faults.harness.processes import Outcome
from tests.faults.harness.scenarios import put_pair
from tests.faults.harness.shim import Act, Arm, Calls


@pytest.mark.parametrize("act", [Act.FAIL, Act.FAIL_ON])
async def test_power_may_go_after_a_failed_sync_of_the_metadata(bench: Bench, act: Act) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    n = 1
    while True:
        place = bench.empty_place()
        place.root.mkdir(parents=True)
        disk = Disk(place.watch)
        log = place.watch.with_suffix(".log")
        outcome = bench.children.run(
            "key_values",
            Arm(act, n, errno.EIO, Calls.SYNC, str(log)),
            root=place.root,
            watch=place.watch,
        )
        assert not outcome.signal, outcome
        assert not outcome.hung, outcome
        assert not outcome.of("foreign"), outcome
        if not outcome.reached:
            break
        await _check_images(bench, disk, list(read_log(log)), outcome, f"sync {n} fails, seed {seed}", seed)
        log.unlink()
        place.remove()
        bench.figures.add(f"failed sync: {act.name}")
        n += 1
    assert n > 20


async def _check_images(bench: Bench, disk: Disk, calls: list[Call], outcome: Outcome, context: str, seed: int) -> None:
    """The power goes at some of the calls after the failure."""
    said: list[tuple[str, int]] = []
    failed = False
    step = bench.reach.steps(23)
    for number, call in enumerate(calls):
        disk.apply(call)
        failed = failed or call.kind == "lost"
        if call.kind == "note":
            verb, _, subject = call.one.partition(" ")
            if verb in ("full", "relaxed"):
                said.append((verb, int(subject)))
        if failed and (call.one.startswith("full") or number % step == 0 or number == len(calls) - 1):
            for loss in Loss:
                image = bench.empty_place()
                disk.write_image(image.watch, loss, seed + number)
                await _check(
                    image, said, f"{context}, power gone after call {number} of {len(calls)}, {loss.value}: {outcome}"
                )
                image.remove()


async def _check(image: Place, said: list[tuple[str, int]], context: str) -> None:
    """What was durable is there, nothing is there in part, and nothing without what was acknowledged before it."""
    if not (image.root / "kv.sqlite").exists():
        assert not said, context
        return
    store = SqliteKeyValueStore(SqliteConfig(image.root / "kv.sqlite"))
    try:
        left = [pair async for pair in store.scan("left")]
        right = [pair async for pair in store.scan("right")]
        there = {int(value[: len(value) // 300]) for _, value in left}
        assert left == right, context
        last = max(there, default=-1)
        assert {number for _, number in said if number <= last} <= there, context
        assert {number for verb, number in said if verb == "full"} <= there, context
        await store.transact(lambda tx: put_pair(tx, 99), Durability.FULL)
    except Exception as error:
        error.add_note(context)
        raise
    finally:
        await store.aclose()
