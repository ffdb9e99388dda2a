"""A sync of RocksDB's that fails: who waited is told, and what is acknowledged later outlives the power all the same.

As for SQLite (test_failed_syncs.py): the system reports such an error once and calls the lost pages clean.
"""

from __future__ import annotations

import errno
import random

import pytest

from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore
from graviton.errors import IntegrityError
from graviton.ports.kv import Durability
from tests.faults.harness.bench import Bench, Place
from tests.faults.harness.power import Call, Disk, Loss, read_log
from tests.faults.harness.processes import Outcome
from tests.faults.harness.scenarios import put_pair
from tests.faults.harness.shim import Act, Arm, Calls

IMAGES = 4
"""Points after the failure at which the power goes, in the short form; the last is one."""


@pytest.mark.parametrize("act", [Act.FAIL, Act.FAIL_ON])
async def test_power_may_go_after_a_failed_sync_of_rocksdb(bench: Bench, act: Act) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    tried = 0
    step = bench.reach.steps(3)
    for n in range(1 + seed % step, 400, step):
        place = bench.empty_place()
        place.root.mkdir(parents=True)
        disk = Disk(place.watch)
        log = place.watch.with_suffix(".log")
        outcome = bench.children.run(
            "key_values",
            Arm(act, n, errno.EIO, Calls.SYNC, str(log)),
            root=place.root,
            watch=place.watch,
            backend="rocksdb",
        )
        assert not outcome.signal, outcome
        assert not outcome.hung, outcome
        assert not outcome.of("foreign"), outcome
        if not outcome.reached:
            break
        await _check_images(bench, disk, list(read_log(log)), outcome, f"sync {n} fails, seed {seed}", seed)
        log.unlink()
        place.remove()
        tried += 1
    assert tried > 3


async def _check_images(bench: Bench, disk: Disk, calls: list[Call], outcome: Outcome, context: str, seed: int) -> None:
    """The power goes at some of the calls after the failure."""
    said: list[tuple[str, int]] = []
    lost = next((number for number, call in enumerate(calls) if call.kind == "lost"), len(calls))
    step = bench.reach.steps(max(1, (len(calls) - lost) // IMAGES))
    for number, call in enumerate(calls):
        disk.apply(call)
        if call.kind == "note":
            verb, _, subject = call.one.partition(" ")
            if verb in ("full", "relaxed"):
                said.append((verb, int(subject)))
        if number >= lost and ((number - lost) % step == 0 or number == len(calls) - 1):
            for loss in Loss:
                image = bench.empty_place()
                disk.write_image(image.watch, loss, seed + number)
                where = f"{context}, power gone after call {number} of {len(calls)}, {loss.value}: {outcome}"
                await _check(image, said, loss, where)
                image.remove()


async def _check(image: Place, said: list[tuple[str, int]], loss: Loss, context: str) -> None:
    """What was durable is there, nothing is there in part, and nothing without what was acknowledged before it."""
    folder = image.root / "kv.rocks"
    if not folder.exists():
        assert not [number for verb, number in said if verb == "full"], context
        return
    store = RocksKeyValueStore(RocksConfig(folder))
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
        # Of what was not synced a disk may have kept any part: a hole, for which the store asks for its backup.
        if loss is Loss.MIXED and isinstance(error, IntegrityError):
            return
        error.add_note(context)
        raise
    finally:
        await store.aclose()
