"""What a restart finds: the folder is the truth, the index a hint, and whatever a crash left is tidied up."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from graviton.assembly.caches import open_index
from graviton.backends.filesystem.cache_folder import FsCacheFolder
from graviton.concurrency.executors import in_own_thread
from graviton.ports.blocks import CanonicalBlock
from graviton.stores.layers.cache.keeper import FLUSH_CHANGES, RETRY_SECONDS
from graviton.stores.layers.cache.policy import Entry, Segment
from graviton.testing.conformance.block_values import block
from graviton.testing.fake_clock import FakeClock
from tests.unit.cache.caches import Cached, blocks_of_8k, far, files

REPOSITORY = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"}


async def filled(root: Path, blocks: Sequence[CanonicalBlock]) -> None:
    """A cache with these blocks, in this order; every third was used."""
    store = Cached(root, far(*blocks))
    await store.read(*blocks, *blocks[::3])
    await store.aclose()


def order(store: Cached) -> list[tuple[bytes, Segment, int]]:
    """Entries as they are to go, with the segment, and how often each was asked for."""
    policy = store.keeper.policy
    policy.learn()
    return [(entry.key, entry.segment, policy.frequencies.count(entry.key)) for entry in policy]


def by_age(store: Cached) -> list[Entry]:
    """Entries as they were used, the oldest first."""
    return sorted(store.keeper.policy, key=lambda entry: entry.number)


async def opened(root: Path, blocks: Sequence[CanonicalBlock], limit: int = 1 << 20) -> Cached:
    """A cache after it was loaded."""
    store = Cached(root, far(*blocks), limit=limit)
    assert await store.cache.read(block(b"of no cache").key) is None
    await store.cache.settled()
    return store


async def test_entries_survive_with_their_order(tmp_path: Path) -> None:
    blocks = blocks_of_8k(50)
    first = Cached(tmp_path, far(*blocks), limit=40 * 8192)
    await first.read(*blocks[:40], *blocks[:40:4], *blocks[:40:4], *blocks[40:])
    await first.read(blocks[-1], blocks[-1])
    before = order(first)
    assert {segment for _, segment, _ in before} == set(Segment) - {Segment.GONE}
    await first.aclose()
    again = await opened(tmp_path, blocks, limit=40 * 8192)
    assert order(again) == before
    assert again.inner.fetched == 0  # type: ignore[attr-defined]
    await again.read(*(one for one in blocks if one.key.to_bytes() in again.keeper.policy))
    assert again.inner.fetched == 0  # type: ignore[attr-defined]
    await again.aclose()


async def test_hits_survive_also_those_of_a_process_that_had_nothing_else(tmp_path: Path) -> None:
    blocks = blocks_of_8k(30)
    await filled(tmp_path, blocks)
    used = [one.key.to_bytes() for one in blocks[1::3]]
    for uses in range(2, 6):
        again = await opened(tmp_path, blocks)
        await again.read(*blocks[1::3])
        before = order(again)
        await again.aclose()
        assert [entry.key for entry in by_age(again)][-10:] == used
        assert {count for key, _, count in before if key in used} == {uses}
    again = await opened(tmp_path, blocks)
    assert order(again) == before
    await again.aclose()


async def test_how_often_was_asked_for_what_is_not_cached_survives(tmp_path: Path) -> None:
    """Or short commands would never bring anything new into a cache that is full of used entries."""
    blocks, [new], others = blocks_of_8k(40), blocks_of_8k(1, "new"), blocks_of_8k(3, "other")
    for count in range(4):
        store = await opened(tmp_path, [*blocks, new, *others], limit=40 * 8192)
        assert store.keeper.policy.frequencies.count(new.key.to_bytes()) == count
        assert new.key.to_bytes() not in store.keeper.policy or count > 1
        await store.read(*blocks, new, *others)
        await store.aclose()


@pytest.mark.parametrize(
    "what", ["missing", "garbage", "truncated", "other rows", "first format", "frequencies", "a folder"]
)
async def test_without_a_usable_index_the_folder_is_enough(tmp_path: Path, what: str) -> None:
    blocks = blocks_of_8k(10)
    await filled(tmp_path, blocks)
    path = FsCacheFolder(tmp_path).index_path
    if what == "missing":
        path.unlink()
    elif what == "garbage":
        path.write_bytes(b"no database at all" * 1000)
    elif what == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif what in ("other rows", "first format", "frequencies"):
        kv = open_index(path, False)
        if what == "other rows":
            await kv.put("cache_entries", b"strange", b"row")
        elif what == "first format":
            await kv.put("cache_entries", blocks[0].key.to_bytes(), struct.pack(">BBQ", 2, 1, 7))
        else:
            await kv.put("cache_frequencies", b"\0\0\0\0", b"\x03strange")
        await kv.aclose()
    else:
        path.unlink()
        path.mkdir()
    store = await opened(tmp_path, blocks)
    assert len(store.keeper.policy) == 10
    await store.read(*blocks)
    assert store.inner.fetched == 0  # type: ignore[attr-defined]
    await store.aclose()
    assert (store.count("failures", operation="index") > 0) is (what != "missing")
    again = await opened(tmp_path, blocks)
    assert again.count("failures") == (store.count("failures") if what == "a folder" else 0), "it was made anew"
    await again.aclose()


async def test_an_old_index_and_a_changed_folder_give_what_is_in_the_folder(tmp_path: Path) -> None:
    blocks = blocks_of_8k(20)
    await filled(tmp_path, blocks[:10])
    path = FsCacheFolder(tmp_path).index_path
    old = path.read_bytes()
    await filled(tmp_path, blocks[10:])
    path.write_bytes(old)
    for one in blocks[:3]:
        Path(FsCacheFolder(tmp_path).path(one.key)).unlink()
    store = await opened(tmp_path, blocks)
    assert sorted(key for key, _, _ in order(store)) == sorted(one.key.to_bytes() for one in blocks[3:])
    assert {entry.key for entry in by_age(store)[-10:]} == {one.key.to_bytes() for one in blocks[10:]}, "new ones last"
    await store.aclose()
    again = await opened(tmp_path, blocks)
    assert order(again) == order(store)
    await again.aclose()


async def test_records_without_a_file_are_removed(tmp_path: Path) -> None:
    blocks = blocks_of_8k(10)
    await filled(tmp_path, blocks)
    for one in blocks[:4]:
        Path(FsCacheFolder(tmp_path).path(one.key)).unlink()
    store = await opened(tmp_path, blocks[4:])
    await store.aclose()
    kv = open_index(store.folder.index_path, False)
    assert {key async for key, _ in kv.scan("cache_entries")} == {one.key.to_bytes() for one in blocks[4:]}
    await kv.aclose()


async def test_a_lowered_limit_takes_effect_at_once(tmp_path: Path) -> None:
    blocks = blocks_of_8k(20)
    await filled(tmp_path, blocks)
    store = await opened(tmp_path, blocks, limit=5 * 8192)
    assert len(files(tmp_path)) == 5
    assert store.keeper.policy.used == 5 * 8192
    await store.aclose()


async def test_what_cannot_be_tidied_up_is_counted_and_does_not_stop_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = blocks_of_8k(10)
    await filled(tmp_path, blocks)
    folder = tmp_path / "blocks/blake3"
    (folder / f".fill-{'a' * 24}").mkdir()
    for letter in "bc":
        (folder / f".fill-{letter * 24}").write_bytes(b"half")
    unlink = os.unlink

    def refusing(path: str) -> None:
        if path.endswith(f".fill-{'b' * 24}"):
            raise PermissionError(errno.EPERM, "planned")
        unlink(path)

    monkeypatch.setattr(os, "unlink", refusing)
    store = await opened(tmp_path, blocks)
    assert store.keeper.is_kept
    assert len(store.keeper.policy) == 10
    assert store.count("failures") == 1, "a folder is nothing of ours"
    assert store.count("failures", operation="remove", code="permission_denied") == 1
    await store.aclose()
    assert sorted(path.name for path in folder.glob(".fill*")) == [f".fill-{letter * 24}" for letter in "ab"]


async def test_an_entry_that_cannot_be_removed_does_not_stop_the_start_with_a_lower_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = blocks_of_8k(10)
    await filled(tmp_path, blocks)
    stuck = FsCacheFolder(tmp_path).path(blocks[1].key)
    unlink = os.unlink

    def refusing(path: str) -> None:
        if path == stuck:
            raise PermissionError(errno.EPERM, "planned")
        unlink(path)

    monkeypatch.setattr(os, "unlink", refusing)
    store = await opened(tmp_path, blocks, limit=5 * 8192)
    assert store.keeper.is_kept
    assert store.count("failures", operation="remove") == 1
    [new] = blocks_of_8k(1, "new")
    store.inner.blocks[new.key] = new.payload  # type: ignore[attr-defined]
    await store.read(new, blocks[1])
    assert store.inner.fetched == 1, "what is stuck still counts, and is still served"  # type: ignore[attr-defined]
    assert len(files(tmp_path)) == 5
    assert store.keeper.policy.used == 5 * 8192
    await store.aclose()


async def test_closing_does_not_wait_for_the_folder_to_be_read(tmp_path: Path) -> None:
    blocks = blocks_of_8k(20)
    await filled(tmp_path, blocks)
    store = Cached(tmp_path, far(*blocks))
    store.keeper.is_closing = True
    await store.read(blocks[0])
    assert not store.keeper.is_kept
    await store.aclose()
    again = await opened(tmp_path, blocks)
    assert len(again.keeper.policy) == 20
    await again.aclose()


CRASHER = """
import asyncio, os, sys
from pathlib import Path
from tests.unit.cache.caches import Cached, blocks_of_8k, far
from tests.unit.filesystem.disks import KillingDisk

async def main(at):
    blocks = blocks_of_8k(3)
    store = Cached(Path(sys.argv[1], str(at)), far(*blocks), limit=2 * 8192, disk=KillingDisk(at))
    await store.read(*blocks, blocks[0])
    await store.aclose()
    os._exit(0)

for at in range(1, 500):
    child = os.fork()
    if child == 0:
        asyncio.run(main(at))
    if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        print(at)
        break
"""


async def test_killed_at_every_system_call_leaves_whole_entries_and_what_the_next_start_removes(tmp_path: Path) -> None:
    done = await in_own_thread(
        partial(
            subprocess.run,
            [sys.executable, "-c", CRASHER, str(tmp_path)],
            env=ENVIRONMENT,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
        )
    )
    assert done.returncode == 0, done.stderr
    points = int(done.stdout)
    assert points > 30
    blocks, unfinished = blocks_of_8k(3), 0
    for at in range(1, points):
        root = tmp_path / str(at)
        unfinished += any(name.startswith(".fill-") for name in files(root))
        store = await opened(root, blocks, limit=2 * 8192)
        left = files(root)
        assert set(left) <= {f"{one.key.hex}-8000.cached" for one in blocks}
        assert set(left.values()) <= {8000}
        assert store.keeper.policy.used == len(left) * 8192 <= 2 * 8192
        await store.read(*blocks)
        assert store.count("damaged") == 0
        await store.aclose()
    assert unfinished >= 6, "some were killed in the middle of a write"


READER = """
import asyncio, os, sys
from pathlib import Path
from tests.unit.cache.caches import Cached, blocks_of_8k, far

async def main():
    blocks = blocks_of_8k(400)
    store = Cached(Path(sys.argv[1]), far(*blocks), limit=300 * 8192)
    while True:
        await store.read(*blocks[:int(sys.argv[2])])
        os.write(1, b"round\\n")

asyncio.run(main())
"""


def reader(root: Path, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", READER, str(root), str(count)]
    return subprocess.Popen(command, env=ENVIRONMENT, cwd=REPOSITORY, stdout=subprocess.PIPE)


async def test_killed_in_the_middle_loses_at_most_the_order(tmp_path: Path) -> None:
    process = reader(tmp_path, 300)
    assert process.stdout is not None
    await in_own_thread(process.stdout.readline)
    process.send_signal(signal.SIGKILL)
    await in_own_thread(process.wait)
    process.stdout.close()
    blocks = blocks_of_8k(300)
    store = await opened(tmp_path, blocks, limit=300 * 8192)
    assert len(store.keeper.policy) == 300
    await store.read(*blocks)
    assert store.inner.fetched == 0  # type: ignore[attr-defined]
    known = sum(1 for place in store.keeper._changes.values() if place is not None)
    assert known <= FLUSH_CHANGES
    await store.aclose()


async def test_a_second_process_reads_what_is_there_changes_nothing_and_takes_over_in_the_end(tmp_path: Path) -> None:
    process = reader(tmp_path, 10)
    assert process.stdout is not None
    try:
        await in_own_thread(process.stdout.readline)
        assert FsCacheFolder(tmp_path).keeper() == str(process.pid)
        blocks, clock = blocks_of_8k(12), FakeClock()
        inner = far(*blocks)
        store = Cached(tmp_path, inner, clock=clock)
        await store.read(*blocks)
        await store.read(*blocks)
        assert inner.fetched == 4, "the ten are hits, the others are fetched every time"
        assert len(files(tmp_path)) == 10
        assert not store.keeper.is_kept
        assert store.count("failures") == 0
    finally:
        process.kill()
        await in_own_thread(process.wait)
        process.stdout.close()
    await store.read(*blocks)
    assert len(files(tmp_path)) == 10, "it does not ask at every read"
    clock.advance(RETRY_SECONDS)
    await store.read(*blocks, *blocks)
    assert store.keeper.is_kept
    assert (inner.fetched, len(files(tmp_path))) == (8, 12)
    assert FsCacheFolder(tmp_path).keeper() == str(os.getpid())
    await store.aclose()
    assert FsCacheFolder(tmp_path).keeper() is None


FORKS = """
import gc, os, signal, sys
from pathlib import Path
from graviton.backends.filesystem.cache_folder import FsCacheFolder

folder = FsCacheFolder(Path(sys.argv[1]))
assert folder.own()
child = os.fork()
if child == 0:
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(10)]  # one of them where the lock was
    folder.disown()
    del folder
    gc.collect()
    for one in spare:
        os.fstat(one)  # not closed in its place
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert not FsCacheFolder(Path(sys.argv[1])).own(), "the parent still keeps it"
child = os.fork()
if child == 0:
    print(os.getpid(), flush=True)
    os.close(0), os.close(1)
    signal.pause()
sys.stdin.read()
"""


async def test_a_child_made_by_fork_does_not_keep_the_folder_of_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKS, str(tmp_path)]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    child = int(await in_own_thread(process.stdout.readline))
    folder = FsCacheFolder(tmp_path)
    try:
        assert not folder.own()
        assert folder.keeper() == str(process.pid)
        process.stdin.close()
        assert await in_own_thread(process.wait) == 0
        os.kill(child, 0)
        assert folder.keeper() is None
        assert folder.own()
        folder.disown()
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdin.close()
        process.stdout.close()


async def test_two_stores_of_one_process_that_do_not_know_each_other_are_like_two_processes(tmp_path: Path) -> None:
    blocks = blocks_of_8k(5)
    first, second = Cached(tmp_path, far(*blocks)), Cached(tmp_path, far(*blocks))
    await first.read(*blocks[:3])
    await second.read(*blocks)
    assert (first.keeper.is_kept, second.keeper.is_kept) == (True, False)
    assert second.count("reads", outcome="hit") == 3
    await asyncio.gather(first.aclose(), second.aclose())
