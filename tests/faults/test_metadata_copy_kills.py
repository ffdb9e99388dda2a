"""kill -9 of `graviton meta copy` at its n-th file system call, and at its n-th transaction on PostgreSQL.

After each kill somebody puts a blob, if that is possible; then the same command runs to its end, and the store has all
that was acknowledged.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import sys
import warnings
from pathlib import Path

import pytest

import graviton
from graviton.assembly.moving import metadata_at, moving
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from tests.faults.harness.bench import Bench, Place
from tests.faults.harness.scenarios import OLD, SMALL
from tests.faults.harness.shim import Act, Arm, Calls
from tests.integration.cli_process import children_env
from tests.integration.metadata_kinds import opened, spot


@pytest.mark.parametrize(("act", "calls"), [(Act.KILL, Calls.CHANGES), (Act.TORN_KILL, Calls.WRITE)])
def test_killed_at_a_call_the_copy_goes_on(bench: Bench, act: Act, calls: Calls) -> None:
    killed = 0
    for n in range(1, 10_000, bench.reach.steps(7)):
        place = bench.place("put_small")
        old = place.watch / "old.sqlite"
        for path in place.root.glob("meta.sqlite*"):
            path.rename(str(old) + path.name.removeprefix("meta.sqlite"))
        argv = ["--root", str(place.root), "meta", "copy"]
        argv += ["--from", f"sqlite:{old}", "--to", f"sqlite:{place.root / 'meta.sqlite'}"]
        outcome = bench.children.run("command", arm := Arm(act, n, calls=calls), watch=place.watch, argv=argv)
        must = {blob.id for blob in OLD}
        if asyncio.run(_put_somewhere(place, str(old), str(place.root / "meta.sqlite"))):
            must.add(SMALL.id)
        again = bench.children.run("command", Arm(), watch=place.watch, argv=argv)
        assert again.of("exit") == ["0"], (arm, again)
        bench.check_store("put_small", place, must, set(), arm, is_copy=True)
        place.remove()
        if not outcome.signal:
            break
        assert outcome.signal == signal.SIGKILL
        killed += 1
        bench.figures.add(f"kill: metadata copy, {act.name.lower()}")
    assert killed > 5


@pytest.mark.parametrize(("kind", "other"), [("rocksdb", "sqlite"), ("sqlite", "rocksdb")])
def test_killed_at_a_call_with_rocksdb_on_one_side_the_copy_goes_on(bench: Bench, kind: str, other: str) -> None:
    killed = 0
    for n in range(1, 10_000, bench.reach.steps(31)):
        place = bench.place("put_small")
        source, target = place.watch / f"{kind}-source", place.watch / f"{other}-target"
        own = f"sqlite:{place.root / 'meta.sqlite'}"
        asyncio.run(_move(place, own, f"{kind}:{source}"))
        argv = ["--root", str(place.root), "meta", "copy", "--from", f"{kind}:{source}", "--to", f"{other}:{target}"]
        outcome = bench.children.run("command", arm := Arm(Act.KILL, n), watch=place.watch, argv=argv)
        must = {blob.id for blob in OLD}
        if asyncio.run(_put_somewhere(place, _address(kind, source), _address(other, target))):
            must.add(SMALL.id)
        again = bench.children.run("command", Arm(), watch=place.watch, argv=argv)
        assert again.of("exit") == ["0"], (arm, again)
        asyncio.run(_move(place, f"{other}:{target}", own))
        bench.check_store("put_small", place, must, set(), arm, is_copy=True)
        place.remove()
        if not outcome.signal:
            break
        assert outcome.signal == signal.SIGKILL
        killed += 1
        bench.figures.add(f"kill: metadata copy, {kind} to {other}")
    assert killed > 5


def _address(kind: str, path: Path) -> str:
    return f"rocksdb://{path}" if kind == "rocksdb" else str(path)


async def _move(place: Place, source: str, target: str) -> None:
    settings = Settings(fs_root=place.root)
    one, other = (metadata_at(settings, text, {}) for text in (source, target))
    async with moving(one, other, replace_target=True) as copy:
        await copy.run()


async def _put_somewhere(place: Place, *addresses: str) -> bool:
    """Put a blob into the source or the target; whether one of them took it. Never do both."""
    taken = 0
    for metadata in addresses:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it was moved
            async with graviton.open(place.root, metadata=metadata) as store:
                try:
                    await store.put(SMALL.data)
                    taken += 1
                except graviton.GravitonError:
                    pass
    assert taken <= 1
    return bool(taken)


_COPIER = """
import asyncio, os, signal, sys
from pathlib import Path
from graviton.assembly.moving import moving, metadata_at
from graviton.assembly.settings import Settings
from graviton.backends.postgres.database import PgDatabase

left, root, source, target = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
real = PgDatabase.transact

async def transact(self, operation, fn, durability, repeats_lost):
    global left
    if durability is not None:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    return await real(self, operation, fn, durability, repeats_lost)

PgDatabase.transact = transact

async def main():
    settings = Settings(fs_root=root)
    async with moving(metadata_at(settings, source, {}), metadata_at(settings, target, {})) as copy:
        await copy.run()

asyncio.run(main())
"""


@pytest.mark.postgres
@pytest.mark.parametrize(("kind", "other"), [("sqlite", "postgres"), ("postgres", "sqlite")])
async def test_killed_at_a_transaction_of_postgres_the_copy_goes_on(kind: str, other: str, tmp_path: Path) -> None:
    """Killed again and again on its way, each time later, and given more to copy in between."""
    root = tmp_path / "store"
    async with spot(kind, tmp_path) as source, spot(other, tmp_path) as target:
        ids = []
        async with Store(source.settings(root)) as store:
            ids += [(await store.put(secrets.token_bytes(3000))).id for _ in range(5)]
        signals = []
        for left in range(1, 40, 3):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _COPIER, str(left), str(root), source.place, target.place, env=children_env()
            )
            signals.append(await child.wait())
            if signals[-1] == 0:
                break
            assert signals[-1] == -signal.SIGKILL
            for place in (source, target):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    async with Store(place.settings(root)) as store:
                        try:
                            ids.append((await store.put(secrets.token_bytes(3000))).id)
                        except graviton.GravitonError:
                            pass
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            async with moving(source.settings(root), target.settings(root)) as copy:
                await copy.run()
        assert -signal.SIGKILL in signals
        async with Store(target.settings(root)) as store:
            assert sorted(ids) == sorted([stat.key.text async for stat in store.list()])
        async with opened(target, root) as one:
            assert await one.kv.get("store", b"restoring") is None
        shutil.rmtree(root)
