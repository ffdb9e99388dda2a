"""Batches of files: both kernels do the same, whole or up to the first error, and say how far they came."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graviton.core.chunking import Kernel
from graviton.core.files import FilesError, PythonFileBatches, SystemCalls
from tests.unit.chunking import kernels

pytestmark = pytest.mark.python_kernel

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def open_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_files_are_written_whole_and_renamed(each_kernel: Kernel, tmp_path: Path, folder: int) -> None:
    data = os.urandom(300_000)
    kinds = [data, bytearray(data), memoryview(data)[100:200], memoryview(data).cast("I"), b"", memoryview(b"")]
    names = [f"new-{n}" for n in range(len(kinds))]
    before = open_count()
    each_kernel.write_files(folder, names, kinds, 0o400)
    for name, kind in zip(names, kinds, strict=True):
        assert (tmp_path / name).read_bytes() == bytes(kind)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o400
    each_kernel.rename_files(folder, names, [f"old-{n // 2}" for n in range(len(kinds))])
    assert sorted(os.listdir(tmp_path)) == ["old-0", "old-1", "old-2"]
    assert (tmp_path / "old-0").read_bytes() == data
    each_kernel.write_files(folder, [], [], 0o400)
    each_kernel.rename_files(folder, [], [])
    assert open_count() == before


@pytest.mark.parametrize("there", ["file", "link"])
def test_a_name_that_is_taken_stops_the_batch(each_kernel: Kernel, tmp_path: Path, folder: int, there: str) -> None:
    if there == "link":
        (tmp_path / "b").symlink_to("elsewhere")
    else:
        (tmp_path / "b").write_bytes(b"old")
    with pytest.raises(FilesError) as caught:
        each_kernel.write_files(folder, ["a", "b", "c"], [b"1", b"2", b"3"], 0o400)
    assert (caught.value.errno, caught.value.index, caught.value.made) == (errno.EEXIST, 1, 1)
    assert caught.value.strerror == os.strerror(errno.EEXIST)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_rename_that_fails_leaves_those_before_it(each_kernel: Kernel, tmp_path: Path, folder: int) -> None:
    each_kernel.write_files(folder, ["a", "b"], [b"1", b"2"], 0o600)
    with pytest.raises(FilesError) as caught:
        each_kernel.rename_files(folder, ["a", "none", "b"], ["A", "N", "B"])
    assert (caught.value.errno, caught.value.index, caught.value.made) == (errno.ENOENT, 1, 1)
    assert sorted(os.listdir(tmp_path)) == ["A", "b"]


def test_wrong_arguments_are_refused_before_anything_is_made(each_kernel: Kernel, tmp_path: Path, folder: int) -> None:
    with pytest.raises(ValueError, match="lengths"):
        each_kernel.write_files(folder, ["a", "b"], [b"1"], 0o400)
    with pytest.raises(ValueError, match="lengths"):
        each_kernel.rename_files(folder, ["a"], [])
    for wrong in (folder + 1000, -1):
        with pytest.raises(FilesError) as caught:
            each_kernel.write_files(wrong, ["a"], [b"1"], 0o400)
        assert (caught.value.errno, caught.value.index, caught.value.made) == (errno.EBADF, 0, 0)
    assert os.listdir(tmp_path) == []


def test_the_native_kernel_checks_all_arguments_first(native: Any, tmp_path: Path, folder: int) -> None:
    for names, buffers in ((["a", "b\0"], [b"1", b"2"]), (["a", "b"], [b"1", "2"]), (["a", b"b"], [b"1", b"2"])):
        with pytest.raises((ValueError, TypeError)):
            native.write_files(folder, names, buffers, 0o400)
    with pytest.raises(BufferError):
        native.write_files(folder, ["a", "b"], [b"1", memoryview(b"1234")[::2]], 0o400)
    assert os.listdir(tmp_path) == []


LIMITED = """
import os, resource, sys
from graviton.core.files import FilesError
from tests.unit.chunking.kernels import named
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
folder = os.open(sys.argv[2], os.O_RDONLY)
before = os.listdir("/proc/self/fd")
try:
    named(sys.argv[1]).write_files(folder, ["a", "b", "c", "d"], [bytes(5000), bytes(10), bytes(5001), b""], 0o400)
except FilesError as error:
    print(error.errno, error.index, error.made, os.listdir("/proc/self/fd") == before)
"""


@pytest.mark.parametrize("name", kernels.NAMES)
def test_a_file_that_stays_short_was_made(name: str, tmp_path: Path) -> None:
    """The system takes 5,000 of 5,001 bytes, then nothing more."""
    kernels.named(name)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, name, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}/src:{REPOSITORY}"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == [str(errno.EFBIG), "2", "3", "True"], done.stderr
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {"a": 5000, "b": 10, "c": 5000}


class Odd(SystemCalls):
    """Takes nothing, or says at the end that what was written is lost."""

    def __init__(self, refuse: str) -> None:
        self.refuse = refuse
        self.closed: list[int] = []
        self.write = self._write  # type: ignore[method-assign,assignment]
        self.close = self._close  # type: ignore[method-assign,assignment]

    def _write(self, fd: int, data: Any) -> int:
        return 0 if self.refuse == "write" else os.write(fd, data)

    def _close(self, fd: int) -> None:
        os.close(fd)
        self.closed.append(fd)
        if self.refuse == "close":
            raise OSError(errno.EIO, "lost")


@pytest.mark.parametrize("refuse", ["write", "close"])
def test_bytes_that_are_not_taken_or_lost_at_the_end_are_an_error(tmp_path: Path, folder: int, refuse: str) -> None:
    odd = Odd(refuse)
    with pytest.raises(FilesError) as caught:
        PythonFileBatches(odd).write_files(folder, ["a", "b"], [b"1", b"2"], 0o400)
    assert (caught.value.errno, caught.value.index, caught.value.made) == (errno.EIO, 0, 1)
    assert len(odd.closed) == 1


def test_the_gil_is_released(native: Any, folder: int) -> None:
    names = [f"{n}" for n in range(400)]
    over = threading.Event()

    def work() -> None:
        native.write_files(folder, names, [bytes(200_000)] * len(names), 0o600)
        over.set()

    thread = threading.Thread(target=work)
    turns, beginning = 0, sys.getswitchinterval()
    sys.setswitchinterval(1.0)  # a thread that keeps the GIL keeps it for good
    try:
        thread.start()
        while not over.is_set():
            over.wait(0.0005)
            turns += 1
    finally:
        sys.setswitchinterval(beginning)
    thread.join()
    assert turns > 5
