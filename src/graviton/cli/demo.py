"""`make demo`, also `graviton demo`: two states of real files into a store, and both back, compared."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from graviton.cli.call import Call
from graviton.cli.options import WorksOn, command
from graviton.cli.output import Output
from graviton.errors import ConfigError

if TYPE_CHECKING:
    from graviton.assembly.settings import Settings
    from graviton.assembly.store import Store
    from graviton.core.chunking import Kernel
    from graviton.core.keys import BlobKey
    from graviton.ports.blobs import BlobWriteResult
    from graviton.services.demo_data import Member

__all__ = ["demo"]

_NATIVE_BYTES = 128 << 20
_PYTHON_BYTES = 6 << 20
"""The Python kernel cuts a few MB/s: two states of this still fit into half a minute."""

_NEXT = """
Try next (the command is .venv/bin/graviton, unless it is on your PATH):
  graviton put FILE            store a file; prints its id
  graviton put -r FOLDER       store a folder; the last id is that of its listing
  graviton ls --long           what is there
  graviton get ID -o FILE      read it back, verified
  graviton verify --all        check every byte
  graviton stats               what deduplication saves
The store is ./.graviton unless you say --root DIR. `graviton --help` lists everything."""


class _Witness:
    """Digests of a stream, taken beside the store with other libraries."""

    def __init__(self) -> None:
        from blake3 import blake3

        self._sha256, self._blake3 = hashlib.sha256(), blake3()

    def add(self, piece: bytes | memoryview) -> None:
        """Take one piece."""
        self._sha256.update(piece)
        self._blake3.update(piece)

    def digests(self) -> tuple[str, str]:
        """SHA-256 and BLAKE3."""
        return self._sha256.hexdigest(), self._blake3.hexdigest()


class _Stored(NamedTuple):
    """One state in the store."""

    key: BlobKey
    digests: tuple[str, str]


@command(works_on=WorksOn.NOTHING)
async def demo(call: Call) -> int:
    """Store two states of real files and see what is saved.

    Packs the library folder of this Python into a tar, stores it, stores it again with files inserted, edited and
    removed, reads both back and compares them with digests taken from the original streams. In a temporary folder,
    which is removed.
    """
    from graviton.services.demo_data import change, library_members

    out, settings = call.out, call.settings()
    kernel = _kernel(out, settings)
    is_native = kernel.name == "native"
    members = library_members(_library(), _NATIVE_BYTES if is_native else _PYTHON_BYTES)
    changed, changes = change(members)
    with tempfile.TemporaryDirectory(prefix="graviton-demo-") as folder:
        which = f"native kernel ({kernel.simd})" if is_native else "Python kernel: slow, so the input is small"
        out.result(f"A new store in {folder}, {which}.\n", demo="store", kernel=kernel.name)
        async with _store(settings, Path(folder, "store"), is_native) as store:
            first = await _put(out, store, "first", f"1. {len(members):,} files of {_library()} as a tar", members)
            what = f"2. The same, {changes.removed} removed, {changes.edited} edited, {changes.inserted} inserted"
            second = await _put(out, store, "second", what, changed)
            await _sum_up(out, store)
            same = [await _read_back(out, store, name, one) for name, one in (("first", first), ("second", second))]
    out.result(_NEXT if all(same) else "\nSomething is wrong: what came back differs.", demo="done", same=all(same))
    return 0 if all(same) else 1


def _kernel(out: Output, settings: Settings) -> Kernel:
    from graviton.assembly.wiring import kernel_for

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the same in other words
        kernel = kernel_for(settings)
    if kernel.name != "native" and settings.kernel == "auto":  # who asked for it knows; `make demo` has said why
        out.warn(
            "the native kernel is not there, and the Python one is a thousand times slower: install Rust"
            " (https://rustup.rs) and run `make demo` again"
        )
    return kernel


def _library() -> Path:
    import sysconfig

    folder = Path(sysconfig.get_path("stdlib"))
    if not folder.is_dir():
        raise ConfigError(f"this Python has no library folder at {folder}", operation="demo", subject=str(folder))
    return folder.resolve()


def _store(settings: Settings, folder: Path, is_native: bool) -> Store:
    from graviton.assembly.store import Store
    from graviton.core.chunking import PRESETS

    # The small input of the Python kernel needs small blocks to show anything.
    chunker = settings.chunker or (None if is_native else PRESETS["small"])
    here = settings._replace(fs_root=folder, meta_path=None, blob_backend="fs", metadata="sqlite", chunker=chunker)
    return Store(here)


async def _put(out: Output, store: Store, name: str, headline: str, members: list[Member]) -> _Stored:
    from graviton.cli.units import human_bytes, human_rate
    from graviton.concurrency.executors import in_own_thread

    tar = store.settings.fs_root.parent / f"{name}.tar"
    digests = await in_own_thread(_pack, tar, members)
    begun = time.perf_counter()
    result = await store.put(tar)
    seconds = time.perf_counter() - begun
    tar.unlink()
    stats = result.stats
    saved = 1 - stats.fresh_bytes / stats.size if stats.size else 0.0
    out.result(
        f"{headline}: {human_bytes(stats.size)}\n"
        f"   {stats.fresh_blocks:,} of {stats.blocks:,} blocks were new, {human_bytes(stats.fresh_bytes)} written,"
        f" {saved:.0%} saved; {seconds:.2f} s, {human_rate(stats.size, seconds)}\n"
        f"   {result.id}\n",
        demo=name,
        **_values(result, seconds),
    )
    out.flush()
    return _Stored(result.key, digests)


def _pack(tar: Path, members: list[Member]) -> tuple[str, str]:
    """Write the tar of `members`, piece by piece; its digests."""
    from graviton.services.demo_data import tar_pieces

    witness = _Witness()
    with open(tar, "wb") as file:
        for piece in tar_pieces(members):
            witness.add(piece)
            file.write(piece)
    return witness.digests()


def _values(result: BlobWriteResult, seconds: float) -> dict[str, Any]:
    stats = result.stats
    return {
        "id": result.id,
        "size": stats.size,
        "blocks": stats.blocks,
        "fresh_blocks": stats.fresh_blocks,
        "fresh_bytes": stats.fresh_bytes,
        "seconds": seconds,
    }


async def _sum_up(out: Output, store: Store) -> None:
    from graviton.cli.units import human_bytes

    totals = await store.totals()
    saved = totals.logical_bytes - totals.stored_bytes
    out.result(
        f"Together {human_bytes(totals.logical_bytes)} in {human_bytes(totals.stored_bytes)}:"
        f" deduplication saved {human_bytes(saved)}, ratio {totals.logical_bytes / max(1, totals.stored_bytes):.2f}.\n",
        demo="totals",
        logical_bytes=totals.logical_bytes,
        stored_bytes=totals.stored_bytes,
        saved_bytes=saved,
    )


async def _read_back(out: Output, store: Store, name: str, stored: _Stored) -> bool:
    from graviton.cli.units import human_rate

    witness = _Witness()
    begun = time.perf_counter()
    async with await store.get(stored.key) as reader:
        async for piece in reader:
            witness.add(piece)
    seconds = time.perf_counter() - begun
    same = witness.digests() == stored.digests and witness.digests()[1] == stored.key.hex
    out.result(
        f"3. Read the {name} state back, verified: {'the same bytes' if same else 'DIFFERENT BYTES'}"
        f" (sha256 {witness.digests()[0][:16]}...), {human_rate(stored.key.size, seconds)}",
        demo=f"{name} back",
        same=same,
        sha256=witness.digests()[0],
        seconds=seconds,
    )
    return same


if __name__ == "__main__":
    from graviton.cli.main import main

    sys.argv.insert(1, "demo")
    sys.exit(main())
