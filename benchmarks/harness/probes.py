"""The places in the program that profiles time. They follow its insides and change with them."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.stages import Stages

__all__ = ["probe"]


def probe(stages: Stages) -> None:
    """Time the stages of put and get in this process from now on."""
    _probe_disk(stages)
    _probe_kernel(stages)
    _probe_metadata(stages)
    from graviton.stores import fillers
    from graviton.stores.placed_file import PlacedFile

    stages.patch(fillers._FdFiller, "_read", "read the source")
    stages.patch(PlacedFile, "write", "write the output")


def _probe_disk(stages: Stages) -> None:
    from graviton.backends.filesystem._disk import Disk

    names = {
        "create": "create a file",
        "write": "write a block",
        "write_back": "begin write-back",
        "close": "close a file",
        "rename": "rename a block",
        "open": "open a block",
        "read": "read a block",
    }
    for method, stage in names.items():
        stages.patch(Disk, method, stage)
    stages.patch(Disk, "fsync", "fsync files and folders")


def _probe_kernel(stages: Stages) -> None:
    from graviton.core.chunking import _kernel
    from graviton.core.hashing import HashAlgo

    class TimedIngest:
        """`Ingest` with a clock."""

        def __init__(self, inner: Any) -> None:
            self.feed = stages.timed(inner.feed, "cut and hash")
            self.finish = inner.finish

    make = _kernel.NativeKernel.ingest
    _kernel.NativeKernel.ingest = lambda *args: TimedIngest(make(*args))  # type: ignore[method-assign,assignment]
    stages.patch(HashAlgo, "digest", "verify a block")
    stages.patch(_kernel.NativeKernel, "digest_many", "cut and hash")
    stages.patch(_kernel.NativeKernel, "syncfs", "syncfs")


def _probe_metadata(stages: Stages) -> None:
    from graviton.backends.sqlite._writer import Writer

    stages.patch(Writer, "_begin", "metadata: begin (a lock, PRAGMA)")
    stages.patch(Writer, "_run_one", "metadata: statements and rows")
    stages.patch(Writer, "_commit", "metadata: commit (WAL, fsync)")
