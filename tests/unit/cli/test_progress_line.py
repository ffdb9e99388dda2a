from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from graviton.cli.progress_line import progress_line

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def line(label: str, done: int, total: int | None, unit: str | None = None) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", progress_line(label, unit, total)(done, total))
    return re.sub(r"[^\x20-\x7e]+ *", "# ", text) if label.isascii() else text  # the bar is one #


def test_a_known_total_has_a_bar_and_the_time_that_is_left() -> None:
    assert line("big.iso", 25 * MIB, 100 * MIB) == "big.iso # 25% 25.0/100.0 MiB ? -:--:-- left"
    assert line("restoring", 1500, 3000, "record") == "restoring # 50% 1500/3000 records -:--:-- left"


def test_an_unknown_total_has_the_time_that_went_by() -> None:
    assert line("-", 25 * MIB, None) == "- # 25.0/? MiB ? 0:00:00"
    assert line("counting", 1, None, "domain") == "counting # 1/? domains 0:00:00"


def test_a_total_may_become_known() -> None:
    text = progress_line("x", None, None)
    text(1, None)
    assert " 50%" in text(5, 10)


@pytest.mark.parametrize(
    ("done", "shown"), [(7, "100% 5/5 bytes ? 0:00:00 left"), (0, "  0% 0/5 bytes ? -:--:-- left")]
)
def test_it_is_never_more_than_all(done: int, shown: str) -> None:
    assert line("x", done, 5).endswith(shown)


def test_a_label_is_shown_as_it_is() -> None:
    for label in ("[red]", "[/]", ":smile:", "{task}", "a  b"):
        assert line(label, 1, 5).startswith(f"{label} ")


@pytest.mark.parametrize(
    "label",
    ["big.iso", "a" * 300, "a b " * 80, "\u6f22\u5b57" * 50, "e\u0301" * 60],
    ids=["short", "long", "words", "wide", "combining"],
)
def test_it_fits_whatever_the_terminal(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (*range(1, 100, 3), 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        for total in (None, 100 * MIB):
            text = re.sub(r"\x1b\[[0-9;]*m", "", progress_line(label, None, total)(25 * MIB, total))
            assert cell_len(text) <= columns
            assert "\n" not in text
            assert columns < 50 or "25.0/" in text
