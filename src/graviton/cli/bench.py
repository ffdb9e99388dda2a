"""`graviton bench`: how fast this machine does this work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from graviton.cli.call import Call
from graviton.cli.options import WorksOn, command
from graviton.errors import Unsupported

__all__ = ["bench"]


@command(works_on=WorksOn.NOTHING)
async def bench(call: Call) -> None:
    """Measure this machine's own speed for this work.

    Works in a scratch folder on the file system of the store, which is removed afterwards, and takes less than 20
    seconds. Every figure is a median.
    """
    from graviton.assembly.store import Store
    from graviton.assembly.wiring import kernel_for
    from graviton.services.machine import existing_parent
    from graviton.services.selfbench import BenchPlan, measure_all

    settings = call.settings()
    if (settings.blob_backend, settings.metadata) != ("fs", "sqlite"):
        raise Unsupported("only the embedded store, files and SQLite in one folder, is measured", operation="bench")
    kernel = kernel_for(settings)

    def open_store(folder: Path) -> Store:
        return Store(settings._replace(fs_root=folder, meta_path=None, chunker=None, hash=None))

    with tempfile.TemporaryDirectory(prefix=".graviton-bench-", dir=existing_parent(settings.fs_root)) as folder:
        call.out.note(f"measuring in {folder}, with the {kernel.name} kernel ({kernel.simd})")
        async for one in measure_all(kernel, Path(folder), open_store, BenchPlan.for_kernel(kernel)):
            value = f"{one.value:,.2f}" if one.unit == "GB/s" else f"{one.value:,.0f}"
            call.out.result(
                f"{one.text:<48} {value:>9} {one.unit}",
                bench=one.name,
                value=one.value,
                unit=one.unit,
                runs=list(one.runs),
                kernel=kernel.name,
            )
            call.out.flush()
