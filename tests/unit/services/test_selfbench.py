"""The machine's own benchmark gives every figure as the median of its runs; speed itself is never tested."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.core.chunking import Kernel
from graviton.services import selfbench
from graviton.services.selfbench import BenchPlan, measure_all


async def test_every_figure_is_a_median_and_the_store_is_used(
    tmp_path: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selfbench, "_RUNS", 3)
    opened: list[Path] = []

    def open_store(folder: Path) -> Store:
        opened.append(folder)
        return Store(Settings(fs_root=folder, kernel=kernel.name))

    plan = BenchPlan(memory_bytes=1 << 16, file_bytes=1 << 16, puts=3, grouped_puts=5, commits=3)
    measures = [one async for one in measure_all(kernel, tmp_path, open_store, plan)]
    names = "cut_and_hash hash_blake3 hash_sha256 write put put_again get small_puts put_many commits"
    assert [one.name for one in measures] == names.split()
    for one in measures:
        assert 1 <= len(one.runs) <= 3
        assert one.value == median(one.runs) > 0
    assert set(opened) == {tmp_path / "large", tmp_path / "small"}
    assert not (tmp_path / "source").exists()
    assert not (tmp_path / "large").exists()
