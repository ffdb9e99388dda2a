"""Started by `Children` with the shim preloaded: reads requests, forks a process for each, answers how it ended."""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import io
import json
import os
import pkgutil
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import graviton
from graviton import cli
from graviton.assembly import metadata_side, wiring
from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.backends.rocksdb import RocksConfig, RocksKeyValueStore
from graviton.backends.sqlite import SqliteConfig, SqliteKeyValueStore
from graviton.ports.kv import Durability, KeyValueStore
from tests.faults.harness.busy import be_busy
from tests.faults.harness.damage import use_damaged
from tests.faults.harness.laws import temporary_files
from tests.faults.harness.opening import open_store
from tests.faults.harness.processes import decode_arm, fork_case, stay_on_one_cpu
from tests.faults.harness.scenarios import OLD, SCENARIOS, SMALL_BLOCKS, make_template, put_pair
from tests.faults.harness.shim import Arm, Shim
from tests.faults.harness.uploading import go_on, upload_everything

_shim = Shim()


def _speaker(pipe: int) -> Callable[[str, str], None]:
    def say(verb: str, subject: str = "") -> None:
        _shim.note(f"{verb} {subject}")
        os.write(pipe, json.dumps([verb, subject]).encode() + b"\n")

    return say


def _told(error: BaseException, say: Callable[[str, str], None], verb: str) -> None:
    """Say how something failed: by its code if the error is ours, by its trace if it is foreign."""
    if isinstance(error, graviton.GravitonError):
        say(verb, error.code)
        say("message", str(error))
    else:
        say("foreign", "".join(traceback.format_exception(error)))


def scenario(pipe: int, arm: Arm, name: str, root: str, watch: str, again: bool = False) -> None:
    """Run a scenario with the shim armed from the opening of the store to its close; with `again` a second time on the
    same store once the fault is over."""
    say = _speaker(pipe)
    log_fd = os.open(arm.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if arm.log else -1
    asyncio.run(_scenario(say, arm, log_fd, name, Path(root), watch, again))


async def _scenario(
    say: Callable[[str, str], None], arm: Arm, log_fd: int, name: str, root: Path, watch: str, again: bool
) -> None:
    _shim.arm(watch, arm, log_fd)
    store = open_store(root, chunker=SMALL_BLOCKS)
    await _attempt(store, say, name, root, "failed", "done")
    if again:
        seen, hits = _shim.disarm()
        say("left", json.dumps(temporary_files(Path(watch))))
        await _attempt(store, say, name, root, "failed again", "done again")
        await _closed(store, say)
    else:
        await _closed(store, say)
        seen, hits = _shim.disarm()
    say("calls", str(seen))
    say("hits", str(hits))


async def _attempt(
    store: Store, say: Callable[[str, str], None], name: str, root: Path, failed: str, done: str
) -> None:
    try:
        await SCENARIOS[name].run(store, say, root.parent)
        say(done, "")
    except BaseException as error:  # noqa: BLE001 - judged by the test
        _told(error, say, failed)


async def _closed(store: Store, say: Callable[[str, str], None]) -> None:
    try:
        await store.aclose()
    except BaseException as error:  # noqa: BLE001 - judged by the test
        _told(error, say, "close failed")


def template(pipe: int, arm: Arm, root: str) -> None:
    """Make the store that scenarios begin with."""
    asyncio.run(make_template(Path(root)))


def template_killed(pipe: int, arm: Arm, root: str) -> None:
    """Make the template and die with everything in the WAL, as after a crash."""

    async def make() -> None:
        async with open_store(root, chunker=SMALL_BLOCKS) as store:
            for blob in OLD:
                await store.put(blob.data)
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(make())


def damaged_metadata(pipe: int, arm: Arm, sound: str, work: str, flips: list[tuple[str, int, int]]) -> None:
    """Use a store with one flipped bit in a file of its metadata, for each of `flips`."""
    stay_on_one_cpu()
    say = _speaker(pipe)
    for name, at, bit in flips:
        for problem in use_damaged(Path(sound), Path(work), name, at, bit, say):
            say("broken", f"{name} byte {at} bit {bit}: {problem}")
    say("checked", "")


def busy(pipe: int, arm: Arm, root: str, seed: int, steps: int) -> None:
    """Use a store that others use too."""
    asyncio.run(be_busy(Path(root), seed, steps, _speaker(pipe)))


def key_values(pipe: int, arm: Arm, root: str, watch: str, backend: str = "sqlite") -> None:
    """Transactions on a bare key-value store with the shim armed: some wait for the disk, some do not, and the log is
    moved into the file again and again; then another process's turn, as it were, on what the first one left."""

    def made() -> KeyValueStore:
        if backend == "rocksdb":
            return RocksKeyValueStore(RocksConfig(Path(root, "kv.rocks"), memtable_bytes=1 << 20))
        return SqliteKeyValueStore(SqliteConfig(Path(root, "kv.sqlite"), checkpoint_pages=12))

    asyncio.run(_key_values(_speaker(pipe), arm, made, watch))


async def _key_values(say: Callable[[str, str], None], arm: Arm, made: Callable[[], KeyValueStore], watch: str) -> None:
    log_fd = os.open(arm.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    _shim.arm(watch, arm, log_fd)
    for numbers in (range(33), range(33, 40)):
        kv = made()
        for number in numbers:
            level = Durability.FULL if number % 5 == 4 else Durability.RELAXED
            try:
                await kv.transact(partial(put_pair, number=number), level)
                say(level.value, str(number))
            except graviton.GravitonError as error:
                say("failed", error.code)
        await kv.aclose()
    _, hits = _shim.disarm()
    say("hits", str(hits))


def as_nobody(pipe: int, arm: Arm, root: str, user: int) -> None:
    """Read and put as a user to whom the store does not belong."""
    say = _speaker(pipe)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)

    async def use(verb: str, scenario: str) -> None:
        async with open_store(root) as store:
            try:
                await SCENARIOS[scenario].run(store, lambda *said: None, Path(root).parent)
                say(verb, "right")
            except BaseException as error:  # noqa: BLE001 - judged by the test
                _told(error, say, verb)

    asyncio.run(use("read", "read_all"))
    asyncio.run(use("put", "put_small"))


def command(pipe: int, arm: Arm, watch: str, argv: list[str]) -> None:
    """One command line in this process, with the shim armed."""
    from graviton.cli.main import main as graviton_main

    say = _speaker(pipe)
    sys.stdout = io.TextIOWrapper(io.BytesIO())
    sys.stderr = io.TextIOWrapper(io.BytesIO())
    _shim.arm(watch, arm, -1)
    code = graviton_main(argv)
    _, hits = _shim.disarm()
    sys.stderr.seek(0)
    say("exit", str(code))
    say("stderr", sys.stderr.read())
    say("hits", str(hits))


def upload(pipe: int, arm: Arm, root: str, watch: str) -> None:
    """An upload with the shim armed."""
    say = _speaker(pipe)

    async def run() -> None:
        _shim.arm(watch, arm, -1)
        store = open_store(Path(root), chunker=SMALL_BLOCKS)
        try:
            await upload_everything(store, say)
        except BaseException as error:  # noqa: BLE001 - judged by the test
            _told(error, say, "failed")
        await _closed(store, say)
        seen, hits = _shim.disarm()
        say("calls", str(seen))
        say("hits", str(hits))

    asyncio.run(run())


def upload_goes_on(pipe: int, arm: Arm, root: str, said: list[list[str]]) -> None:
    """Another process goes on with what an upload has left."""
    asyncio.run(go_on(Path(root), _speaker(pipe), [(verb, subject) for verb, subject in said]))


_JOBS: dict[str, Callable[..., None]] = {
    "scenario": scenario,
    "template": template,
    "template_killed": template_killed,
    "damaged_metadata": damaged_metadata,
    "busy": busy,
    "as_nobody": as_nobody,
    "key_values": key_values,
    "command": command,
    "upload": upload,
    "upload_goes_on": upload_goes_on,
}


def _case(request: dict[str, Any], pipe: int) -> None:
    try:
        _JOBS[request["job"]](pipe, decode_arm(request["arm"]), **request["arguments"])
    except BaseException:  # noqa: BLE001 - nothing may leave the forked process but through the pipe
        _speaker(pipe)("foreign", traceback.format_exc())


def _see_syncfs() -> None:
    """Block stores get libc's syncfs: the kernel module's is a bare system call, which no preloaded library sees."""
    make = wiring.block_side

    def block_side(*arguments: Any) -> wiring.BlockSide:
        side = make(*arguments)
        side.blocks._syncfs = _shim.syncfs  # type: ignore[attr-defined]
        return side

    wiring.block_side = block_side


def _import_what_is_imported_on_use() -> None:
    """Else every case does."""
    open_store("/nonexistent")
    metadata_side.open_metadata(Settings(), create=False)
    metadata_side.open_metadata(Settings(metadata="rocksdb"), create=False)
    importlib.import_module("graviton.assembly.moving")
    for module in pkgutil.iter_modules(cli.__path__, "graviton.cli."):
        importlib.import_module(module.name)


def main() -> None:
    """Serve until the input ends."""
    faulthandler.enable()  # a hung case is ended with SIGABRT and shows where it stood
    _see_syncfs()
    _import_what_is_imported_on_use()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        answer = fork_case(partial(_case, request), request["kill_after"])
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
