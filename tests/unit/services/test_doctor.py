"""Each check of the doctor finds the problem it is there for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graviton.core.chunking import PythonKernel, select_kernel
from graviton.errors import ConfigError
from graviton.services import machine
from graviton.services.doctor import Check, Level, check_entries, check_kernel, check_limits, check_place, check_store
from graviton.services.machine import FileSystem, existing_parent, file_system


def _by_name(checks: object) -> dict[str, Check]:
    return {check.name: check for check in checks}  # type: ignore[attr-defined]


def _mounts(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "mountinfo"
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def test_slow_kernel_is_a_warning_and_the_native_one_is_not() -> None:
    assert check_kernel(PythonKernel()).level is Level.WARNING
    kernel = select_kernel(os.environ.get("GRAVITON_KERNEL", "auto"))
    assert check_kernel(kernel).level is (Level.OK if kernel.name == "native" else Level.WARNING)


def test_few_open_files_are_a_warning() -> None:
    assert _by_name(check_limits(1 << 27, files=64, memory=1 << 34))["open_files"].level is Level.WARNING
    assert _by_name(check_limits(1 << 27, files=1024, memory=1 << 34))["open_files"].level is Level.OK


def test_budget_beyond_half_of_the_memory_is_a_problem() -> None:
    found = _by_name(check_limits(1 << 30, files=1024, memory=1 << 30))["memory"]
    assert found.level is Level.PROBLEM
    assert "GRAVITON_MEMORY_BYTES" in found.hint
    assert _by_name(check_limits(1 << 27, files=1024, memory=1 << 30))["memory"].level is Level.OK


def test_metadata_on_a_network_file_system_is_a_problem_and_blocks_there_a_warning(tmp_path: Path) -> None:
    mounts = _mounts(
        tmp_path, "1 0 8:1 / / rw - ext4 /dev/sda rw", f"2 1 0:9 / {tmp_path} rw,relatime shared:1 - nfs4 host:/x rw"
    )  # fmt: skip
    blocks = _by_name(check_place("blocks", tmp_path, mounts=mounts))["blocks.file_system"]
    assert (blocks.level, blocks.values["type"], blocks.values["network"]) == (Level.WARNING, "nfs4", True)
    metadata = _by_name(check_place("metadata", tmp_path, holds_metadata=True, mounts=mounts))["metadata.file_system"]
    assert metadata.level is Level.PROBLEM
    assert "GRAVITON_META_PATH" in metadata.hint


def test_file_system_is_that_of_the_innermost_and_last_mount(tmp_path: Path) -> None:
    place = tmp_path / "with space"
    place.mkdir()
    name = str(place).replace(" ", "\\040")
    mounts = _mounts(
        tmp_path,
        "1 0 8:1 / / rw - ext4 /dev/sda rw",
        f"2 1 8:2 / {name} rw - ext4 /dev/sdb rw",
        f"3 1 8:3 / {name} rw - xfs /dev/sdc rw",
        f"4 1 8:4 / {name}-other rw - btrfs /dev/sdd rw",
    )
    found = file_system(place, mounts)
    assert (found.kind, found.mount_point) == ("xfs", str(place))
    assert file_system(tmp_path, mounts).kind == "ext4"


def _with(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    real = FileSystem("ext4", "/", False, 1 << 40, 1 << 41, 1 << 30)
    monkeypatch.setattr(machine, "file_system", lambda folder: real._replace(**changes))


@pytest.mark.parametrize(("free", "level"), [(1 << 20, Level.PROBLEM), (1 << 29, Level.WARNING), (1 << 33, Level.OK)])
def test_little_room_is_told_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: Level) -> None:
    _with(monkeypatch, free_bytes=free)
    assert _by_name(check_place("blocks", tmp_path))["blocks.free"].level is level


def test_few_inodes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, free_inodes=5_000)
    assert _by_name(check_place("blocks", tmp_path))["blocks.inodes"].level is Level.WARNING
    _with(monkeypatch, free_inodes=3)
    assert _by_name(check_place("blocks", tmp_path))["blocks.inodes"].level is Level.PROBLEM
    _with(monkeypatch, free_inodes=None)
    assert "blocks.inodes" not in _by_name(check_place("blocks", tmp_path))


def test_read_only_and_in_memory_places_are_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, is_read_only=True)
    found = _by_name(check_place("blocks", tmp_path))
    assert found["blocks.writable"].level is Level.WARNING
    assert "blocks.fsync" not in found
    _with(monkeypatch, kind="tmpfs")
    assert _by_name(check_place("blocks", tmp_path))["blocks.file_system"].level is Level.WARNING


def test_slow_and_failing_fsync_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "fsync_seconds", lambda folder: 0.5)
    assert _by_name(check_place("blocks", tmp_path))["blocks.fsync"].level is Level.WARNING

    def fail(folder: Path) -> float:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(machine, "fsync_seconds", fail)
    assert _by_name(check_place("blocks", tmp_path))["blocks.reachable"].level is Level.PROBLEM


def test_many_names_in_the_folder_of_the_blocks_are_a_warning(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).touch()
    assert check_entries(tmp_path, many=6).level is Level.OK
    found = check_entries(tmp_path, many=5)
    assert (found.level, found.values["entries"]) == (Level.WARNING, 5)
    assert "large_dir" in found.hint
    assert check_entries(tmp_path / "none").values["entries"] == 0
    assert check_entries(tmp_path / "0").level is Level.PROBLEM


def test_checks_of_a_place_leave_nothing_and_need_no_folder(tmp_path: Path) -> None:
    assert existing_parent(tmp_path / "a" / "b") == tmp_path
    found = _by_name(check_place("blocks", tmp_path / "a" / "b"))
    assert found["blocks.fsync"].values["seconds"] > 0
    assert list(tmp_path.iterdir()) == []


async def test_store_that_refuses_is_a_problem_with_its_way_out() -> None:
    async def refuse() -> None:
        raise ConfigError("the markers differ", hint="Adopt it.")

    found = await check_store(refuse)
    assert (found.level, found.hint) == (Level.PROBLEM, "Adopt it.")

    async def nothing() -> None:
        return None

    assert (await check_store(nothing)).level is Level.OK
