from __future__ import annotations

import pytest

from graviton.cli.progress_line import BYTE, Amount, progress_line

MIB = 1 << 20


def line(label: str, done: int, total: int | None, unit: str = BYTE, columns: int = 100, speed: float = 2e6) -> str:
    return progress_line(label, Amount(done, total), unit, speed, 75, columns)


def test_a_known_total_has_a_bar_and_the_time_that_is_left() -> None:
    assert line("big.iso", 25 * MIB, 100 * MIB) == (
        "big.iso  [#######-----------------------]   25%  25 MiB of 100 MiB  2 MB/s  0:39 left"
    )
    assert line("restoring", 1500, 3000, "record", speed=100).endswith(
        "   50%  1,500 of 3,000 records  100/s  0:15 left"
    )


def test_an_unknown_total_has_the_time_that_went_by() -> None:
    assert line("-", 25 * MIB, None) == "-  25 MiB  2 MB/s  1:15"
    assert line("counting", 1, None, "domain", speed=0) == "counting  1 domain  0/s  1:15"
    assert progress_line("-", Amount(0, None), BYTE, 0, 7384.9, 80).endswith("  2:03:04")


@pytest.mark.parametrize(
    ("done", "total", "shown"), [(0, 0, "100%"), (7, 5, "100%"), (0, 5, "  0%"), (199, 200, " 99%")]
)
def test_it_is_never_more_than_all(done: int, total: int, shown: str) -> None:
    assert f"  {shown}  {min(done, total)} B of {total} B  " in line("x", done, total)


def test_nobody_knows_when_what_stands_still_will_end() -> None:
    assert line("x", 1, 5, speed=0).endswith("  0 B/s  -:-- left")


@pytest.mark.parametrize(
    "label",
    ["big.iso", "a" * 300, "\u6f22\u5b57" * 50, "e\u0301" * 60],
    ids=["short", "long", "wide", "combining"],
)
def test_it_fits_whatever_the_terminal(label: str) -> None:
    for columns in range(1, 200):
        for total in (None, 100 * MIB):
            text = line(label, 25 * MIB, total, columns=columns)
            cells = sum(2 if "\u4e00" <= char <= "\u9fff" else char != "\u0301" for char in text)
            assert cells < max(columns, 1) or text == ""


def test_where_it_is_narrow_bar_and_label_give_way() -> None:
    assert line("a-long-name.iso", 25 * MIB, 100 * MIB, columns=66) == (
        "a-long-name.iso   25%  25 MiB of 100 MiB  2 MB/s  0:39 left"
    )
    assert line("a-long-name.iso", 25 * MIB, None, columns=34) == "...name.iso  25 MiB  2 MB/s  1:15"
    assert line("a-long-name.iso", 25 * MIB, None, columns=19) == "...ame.iso  25 MiB"
