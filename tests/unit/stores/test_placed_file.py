"""`PlacedFile`: every byte at its place, whatever the system says to the flag and however little it takes at once."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from graviton.stores.placed_file import UNCACHED_BYTES, PlacedFile


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


class Calls:
    """A system that takes at most `most` bytes at once, and refuses flags with `refusal`."""

    def __init__(self, most: int = 1 << 30, refusal: int = 0) -> None:
        self.flags: list[int] = []
        self._most, self._refusal = most, refusal

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._real = os.pwrite
        monkeypatch.setattr(os, "pwritev", self.pwritev)
        monkeypatch.setattr(os, "pwrite", self.pwrite)

    def pwritev(self, fd: int, buffers: Sequence[memoryview], at: int, flags: int) -> int:
        self.flags.append(flags)
        if self._refusal:
            raise OSError(self._refusal, os.strerror(self._refusal))
        return self._real(fd, buffers[0][: self._most], at)

    def pwrite(self, fd: int, data: memoryview, at: int) -> int:
        self.flags.append(0)
        return self._real(fd, data[: self._most], at)


def test_bytes_lie_where_they_belong(fd: int) -> None:
    file = PlacedFile(fd, UNCACHED_BYTES)
    file.write(memoryview(b"world"), 6)
    file.write(memoryview(b"hello "), 0)
    file.write(memoryview(b""), 3)
    assert os.pread(fd, 100, 0) == b"hello world"


def test_only_large_outputs_go_around_the_page_cache(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls()
    calls.install(monkeypatch)
    PlacedFile(fd, UNCACHED_BYTES - 1).write(memoryview(b"x"), 0)
    PlacedFile(fd, UNCACHED_BYTES).write(memoryview(b"x"), 0)
    assert calls.flags == [0, 0x80]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL], ids=errno.errorcode.get)
def test_a_system_without_the_flag_is_asked_once(fd: int, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    calls = Calls(most=2, refusal=number)
    calls.install(monkeypatch)
    file = PlacedFile(fd, UNCACHED_BYTES)
    file.write(memoryview(b"abcde"), 1)
    file.write(memoryview(b"z"), 0)
    assert os.pread(fd, 100, 0) == b"zabcde"
    assert calls.flags == [0x80, 0, 0, 0, 0]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_errors_are_raised(fd: int, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    Calls(refusal=number).install(monkeypatch)
    with pytest.raises(OSError, match=os.strerror(number)):
        PlacedFile(fd, UNCACHED_BYTES).write(memoryview(b"x"), 0)


def test_a_system_that_takes_nothing_is_an_error(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    Calls(most=0).install(monkeypatch)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        PlacedFile(fd, 1).write(memoryview(b"x"), 0)
