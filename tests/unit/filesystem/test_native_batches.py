"""Small batches written by the native kernel: its system calls fail one by one; slices; cancellation between them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from graviton.backends.filesystem import FsBlockStore, FsConfig, _batch
from graviton.backends.filesystem._disk import Disk
from graviton.concurrency.executors import in_own_thread
from graviton.core.buffers import Buffer
from graviton.core.files import PythonFileBatches
from graviton.errors import StorageFull
from tests.faults.harness import shim
from tests.unit.chunking.kernels import named
from tests.unit.filesystem.disks import FailingDisk
from tests.unit.filesystem.helpers import ALWAYS, batch, open_files, temp_files
from tests.unit.filesystem.native_faults import FILES

REPOSITORY = Path(__file__).parents[3]
ERRORS = {errno.ENOSPC: "StorageFull", errno.EIO: "Unavailable", errno.EACCES: "PermissionDenied"}


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc, to build the preloaded library")
@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
async def test_each_call_of_the_kernel_fails(tmp_path: Path, number: int) -> None:
    named("native")
    library = shim.build(tmp_path)
    (tmp_path / "stores").mkdir()
    command = [sys.executable, "-m", "tests.unit.filesystem.native_faults", str(tmp_path / "stores"), str(number)]
    paths = {"LD_PRELOAD": str(library), "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"}
    done = await in_own_thread(
        partial(
            subprocess.run,
            command,
            env={**os.environ, **paths},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=200,
        )
    )
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    # Opening the folder, then an open and a write per file, syncfs, the renames, fsync of the folder.
    assert len(cases) == 1 + 2 * FILES + 1 + FILES + 1
    for n, case in enumerate(cases, start=1):
        assert case["error"] == ERRORS[number], n
        assert (case["temps"], case["open"], case["whole"]) == ([], [], True), n
        assert case["there"] == max(0, min(FILES, n - 1 - 2 * FILES - 2)), "visible are those renamed before, no others"


class Recording(PythonFileBatches):
    """Remembers how many files each call has."""

    def __init__(self) -> None:
        super().__init__(Disk())
        self.calls: list[tuple[str, int]] = []
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def write_files(self, folder: int, names: Sequence[str], buffers: Sequence[Buffer], mode: int) -> None:
        self.calls.append(("write", len(names)))
        self.reached.set()
        assert self.go_on.wait(10.0)
        super().write_files(folder, names, buffers, mode)

    def rename_files(self, folder: int, olds: Sequence[str], news: Sequence[str]) -> None:
        self.calls.append(("rename", len(olds)))
        super().rename_files(folder, olds, news)


async def test_a_large_batch_goes_in_slices(tmp_path: Path) -> None:
    batches = Recording()
    store = FsBlockStore(FsConfig(tmp_path), batches=batches, syncfs=lambda fd: batches.calls.append(("syncfs", 1)))
    blocks = batch(_batch._SLICE * 2 + 1)
    await store.put_blocks(blocks)
    sizes = [_batch._SLICE, _batch._SLICE, 1]
    assert batches.calls[3:] == [("syncfs", 1), *(("rename", size) for size in sizes)]
    assert sorted(batches.calls[:3], reverse=True) == [("write", size) for size in sizes]
    assert await store.exists_many([one.key for one in blocks]) == [True] * len(blocks)
    await store.aclose()


async def test_cancellation_is_noticed_between_slices(tmp_path: Path) -> None:
    batches = Recording()
    batches.go_on.clear()
    store = FsBlockStore(FsConfig(tmp_path, workers=1), batches=batches, syncfs=lambda fd: None)
    task = asyncio.ensure_future(store.put_blocks(batch(_batch._SLICE * 3), ALWAYS))
    await in_own_thread(batches.reached.wait, 10.0)
    task.cancel()
    await asyncio.sleep(0)
    batches.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert batches.calls == [("write", _batch._SLICE)]
    assert temp_files(tmp_path) == []
    await store.aclose()


@pytest.mark.parametrize("workers", [1, 8])
async def test_a_failure_in_one_slice_leaves_nothing_of_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(_batch, "_SLICE", 3)
    for at in range(1, 20):
        disk = FailingDisk(at, errno.ENOSPC, only=("create", "write", "close"))
        store = FsBlockStore(FsConfig(tmp_path, workers=workers, syncfs_min_files=8), disk=disk, syncfs=lambda fd: None)
        before = open_files()
        with pytest.raises(StorageFull):
            await store.put_blocks(batch(10, stem=f"{at}"))
        assert temp_files(tmp_path) == []
        assert open_files() == before
        assert [key async for key in store.list()] == []
        await store.aclose()
