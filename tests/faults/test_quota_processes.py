"""The quota between processes: a race for the last bytes, and processes that are killed between its steps."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graviton.assembly.limit_settings import LimitSettings
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.constraints.quota import CHANGE_LIFETIME_SECONDS, Quota, QuotaLimits, Usage
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.errors import StorageFull
from graviton.testing.fake_clock import FakeClock
from tests.unit.constraints.quotas import check_rows

LIMIT = 600_000
HOLDER_LIMIT = 220_000
HOLDERS = ["ann", "ben", "cid"]
CHILD = Path(__file__).with_name("quota_child.py")


def settings(root: Path) -> Settings:
    limits = LimitSettings(QuotaLimits(bytes=LIMIT, holder_bytes=HOLDER_LIMIT))
    return Settings(fs_root=root, kernel=os.environ.get("GRAVITON_KERNEL", "auto"), limits=limits)


def child(root: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(CHILD), str(root), *arguments], stdout=subprocess.PIPE)


async def later(store: Store) -> Quota:
    """The quota as somebody sees it when everything that was left behind has expired."""
    clock = FakeClock(time.time_ns())  # noqa: TID251 - the processes had the machine's
    clock.advance(CHANGE_LIFETIME_SECONDS + 1)
    return Quota(await store.metadata(), QuotaLimits(), clock)


async def check_exact(store: Store) -> None:
    """When everything has expired, the books say what is there, holder by holder: it is found by taking it away."""
    quota = await later(store)
    await quota.recover()
    totals = await store.totals()
    assert await quota.usage() == Usage(totals.logical_bytes, totals.blobs, 0, 0)
    assert totals.logical_bytes <= LIMIT
    await (await store.metadata()).read(check_rows)
    keys = [stat.key async for stat in store.list()]
    for holder in HOLDERS:
        used = await quota.usage(holder)
        assert used.bytes <= HOLDER_LIMIT
        held = [key for key in keys if await store.delete(key, holder)]
        assert used == Usage(sum(key.size for key in held), len(held), 0, 0), holder
        assert await quota.usage(holder) == Usage(0, 0, 0, 0)
    assert await quota.usage() == Usage(0, 0, 0, 0)


async def test_processes_that_race_are_never_over_and_can_be_killed(tmp_path: Path) -> None:
    """Five processes put, remove and bring back blobs, shared ones too, in ways of every kind; two are killed."""
    seed = random.SystemRandom().randrange(1 << 32)
    root = tmp_path / "store"
    async with Store(settings(root)) as store:
        await store.init()
        children = [child(root, "race", str(seed + number), "25") for number in range(5)]
        told = b""
        most = 0
        try:
            killed = children[:2]
            while any(one.poll() is None for one in children):
                totals = await store.totals()
                most = max(most, totals.logical_bytes)
                assert totals.logical_bytes <= LIMIT, seed
                if killed and most > LIMIT - 200_000:
                    killed.pop().kill()
                await asyncio.sleep(0.002)
        finally:
            for one in children:
                one.kill()
                told += one.communicate()[0]
        assert b"refused" in told, seed
        assert all(one.returncode == 0 for one in children[2:]), (seed, told)
        assert most > LIMIT // 2, (seed, "the race was for something")
        await check_exact(store)


DATA = b"0123456789" * 10_000
KEY = BlobKey(HashAlgo.BLAKE3.digest(DATA), len(DATA))

STEPS = {
    # where it is killed: whether the blob is there then
    "put reserve": False,
    "put promise": False,
    "put commit": True,
    "put settle": True,
    "small put admit": False,
    "small put commit": True,
    "delete changing": True,
    "delete delete": False,
    "delete settle": False,
    "undelete changing": False,
    "undelete undelete": True,
}


@pytest.mark.parametrize("step", STEPS)
async def test_killed_after_any_step(step: str, tmp_path: Path) -> None:
    root = tmp_path / "store"
    plan = BlobWritePlan(holder="ann")
    async with Store(settings(root)) as store:
        await store.init()
        if not step.partition(" ")[0].endswith("put") and "small" not in step:
            await store.put(DATA, plan)
        if step.startswith("undelete"):
            await store.delete(KEY, "ann")
    with child(root, "kill", step) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"", "it did not come as far as that"
    assert process.returncode == -9
    async with Store(settings(root)) as store:
        used = await (await later(store)).usage("ann")
        is_there = STEPS[step]
        assert (await store.stat(KEY) is not None) is is_there
        assert used.bytes + used.reserved_bytes >= len(DATA) * is_there, "never too little"
        await (await later(store)).recover()
        expected = Usage(len(DATA), 1, 0, 0) if is_there else Usage(0, 0, 0, 0)
        assert await (await later(store)).usage("ann") == await (await later(store)).usage() == expected
        with pytest.raises(StorageFull):
            await store.put(os.urandom(HOLDER_LIMIT - len(DATA) * is_there + 1), plan)
        await store.put(os.urandom(HOLDER_LIMIT - len(DATA) * is_there), plan)
        await check_exact(store)
