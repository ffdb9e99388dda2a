"""Two processes at one upload for real: the older one is frozen, overtaken, and wakes up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import graviton
from graviton.assembly.limits import spill_of
from graviton.assembly.uploads import open_uploads
from graviton.concurrency.executors import in_own_thread
from graviton.services.uploads import UploadState, UploadWishes
from tests.support import some_bytes
from tests.upload_worlds import TINY, pieces, read

DATA = some_bytes(40_000, 21)
SPEC = "w16-v1:256:1024:4096"


async def _older(root: str, id: str, offset: int) -> None:
    """Appends without end: half of what it has comes before it says so, half of it when it is told to go on."""
    async with graviton.open(root, chunker=SPEC) as store:
        spill = spill_of(store.settings, (await store.for_writing()).budget)
        uploads = await open_uploads(store, spill=spill, sizes=TINY)

        async def source():  # type: ignore[no-untyped-def]
            async for piece in pieces(DATA[offset : offset + 10_000], 500):
                yield piece
            os.write(1, b"half\n")
            await in_own_thread(sys.stdin.readline)
            async for piece in pieces(DATA[offset + 10_000 :], 500):
                yield piece

        try:
            await uploads.append(id, offset, source())  # type: ignore[arg-type]
            os.write(1, b"took all of it\n")
        except graviton.GravitonError as error:
            os.write(1, f"{error.code}: {error}\n".encode())
        await uploads.aclose()


@pytest.mark.parametrize("ending", ["done", "terminated", "written"])
async def test_a_frozen_process_that_wakes_up_changes_nothing(tmp_path: Path, ending: str) -> None:
    async with graviton.open(tmp_path / "store", chunker=SPEC) as store:
        spill = spill_of(store.settings, (await store.for_writing()).budget)
        uploads = await open_uploads(store, spill=spill, stale_seconds=0, sizes=TINY)
        upload = await uploads.create(UploadWishes(len(DATA)))
        await uploads.append(upload.id, 0, pieces(DATA[:10_000]))
        call = (
            "import asyncio; from tests.faults.test_upload_processes import _older;"
            f" asyncio.run(_older({str(tmp_path / 'store')!r}, {upload.id!r}, 10_000))"
        )
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
        with subprocess.Popen(
            [sys.executable, "-c", call],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as older:
            assert older.stdin is not None
            assert older.stdout is not None
            assert await in_own_thread(older.stdout.readline) == "half\n"
            older.send_signal(signal.SIGSTOP)
            status = await uploads.append(upload.id, 10_000, pieces(DATA[10_000:20_001]))
            if ending == "done":
                await uploads.append(upload.id, 20_001, pieces(DATA[20_001:]))
                status = await uploads.finish(upload.id, 30)
                assert status.state is UploadState.DONE
            elif ending == "terminated":
                assert await uploads.terminate(upload.id)
            older.send_signal(signal.SIGCONT)
            older.stdin.write("go on\n")
            older.stdin.flush()
            said = await in_own_thread(older.stdout.read)
            assert older.wait(30) == 0
        if ending == "terminated":
            assert said.startswith("not_found: ")
        else:
            assert said.startswith("conflict: ")
            assert (await uploads.status(upload.id))._replace(expires_at_ns=0) == status._replace(expires_at_ns=0)
            if ending == "written":
                await uploads.append(upload.id, 20_001, pieces(DATA[20_001:]))
                status = await uploads.finish(upload.id, 30)
            assert status.key is not None
            assert await read(store, status.key) == DATA
            await uploads.terminate(upload.id)
        await uploads.sweep()
        assert list((tmp_path / "store/uploads").iterdir()) == []
        await uploads.aclose()
