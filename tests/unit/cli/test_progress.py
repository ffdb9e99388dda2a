from __future__ import annotations

import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from graviton.cli import progress as progress_module
from graviton.cli.output import Output
from graviton.cli.progress import Tally, bar


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_BEGIN_SECONDS", 0)
    monkeypatch.setattr(progress_module, "_TICK_SECONDS", 0)


@contextmanager
def terminal(encoding: str = "utf-8") -> Iterator[int]:
    """The other side of the terminal that standard error is. Not a fixture: pytest sets it back after those."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with open(theirs, "w", encoding=encoding) as stderr, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        yield ours


def test_a_tally_is_what_was_counted() -> None:
    tally = Tally(10)
    tally.add(3)
    tally.add(4)
    assert tally.look() == (7, 10)
    tally.at(5)
    assert tally.look() == (5, None)


def test_a_name_cannot_move_the_cursor() -> None:
    with terminal() as screen, bar(Output(), "folder/a\x1b[2J\udcff", Tally(1).look) as tick:
        tick()
        assert os.read(screen, 4096).startswith(b"\r\x1b[2Ka\\x1b[2J\\xff ")


def test_a_terminal_of_another_encoding_gets_what_it_can_show() -> None:
    with terminal("ascii") as screen, bar(Output(), "caf\u00e9", Tally(1).look) as tick:
        tick()
        shown = os.read(screen, 4096)
        assert shown.isascii()
        assert shown.startswith(b"\r\x1b[2Kcaf? ")


def test_a_terminal_that_is_gone_stops_no_work() -> None:
    looks = []

    def look() -> object:
        looks.append(1)
        return Tally(1).look()

    with terminal() as screen, bar(Output(), "x", look) as tick:  # type: ignore[arg-type]
        tick()
        os.close(screen)
        tick()
        tick()
    assert len(looks) <= 3, "one at the beginning, one that was shown, one that failed"


def test_what_cannot_be_looked_at_has_no_bar_any_more() -> None:
    def look() -> object:
        if asked:
            raise OSError("no position")
        asked.append(1)
        return Tally(1).look()

    asked: list[int] = []
    with terminal(), bar(Output(), "x", look) as tick:  # type: ignore[arg-type]
        tick()
        tick()


def test_without_rich_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graviton.cli.progress_line", None)
    with terminal() as screen, bar(Output(), "x", Tally(1).look) as tick:
        tick()
        tick()
        with pytest.raises(BlockingIOError):
            os.read(screen, 1)


def test_what_is_done_at_once_draws_nothing_and_does_not_wait_for_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_BEGIN_SECONDS", 60)
    monkeypatch.delitem(sys.modules, "graviton.cli.progress_line", raising=False)
    with terminal() as screen, bar(Output(), "x", Tally(1).look) as tick:
        tick()
        with pytest.raises(BlockingIOError):
            os.read(screen, 1)
    assert "graviton.cli.progress_line" not in sys.modules


@pytest.mark.parametrize("option", ["json", "quiet"])
def test_nobody_looks_for_whom_it_is_not(option: str) -> None:
    def look() -> object:
        raise AssertionError

    with terminal():
        out = Output()
        setattr(out, option, True)
        with bar(out, "x", look) as tick:  # type: ignore[arg-type]
            tick()
