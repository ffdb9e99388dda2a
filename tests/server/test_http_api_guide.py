"""Every example of the guide runs as it stands, and gives what it says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from graviton.server.http.errors import KINDS, ClientGone, Refused, UnsatisfiableRange
from tests.server.serving import Served

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "http-api.md"
EXAMPLE = re.compile(r"^```sh\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("photo.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(os.urandom(300_000))
    return tmp_path


def pattern_of(expected: str) -> str:
    """Three dots in one character stand for anything."""
    return "\n".join(".*".join(map(re.escape, line.split("…"))) for line in expected.splitlines())


def test_examples_run_and_give_what_they_say(folder: Path) -> None:
    examples = EXAMPLE.findall(GUIDE.read_text())
    assert len(examples) > 10
    with Served(folder / "store") as server:
        script = "".join(f"{code}\necho '=== {number}'\n" for number, (code, _) in enumerate(examples))
        script = script.replace("http://127.0.0.1:8081", server.url)
        done = subprocess.run(
            ["bash", "-euc", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    shown = re.split(r"=== \d+\n", done.stdout.replace("\r", ""))
    for (code, expected), got in zip(examples, shown, strict=False):
        # Answers in JSON have no end of line of their own.
        flat = got.replace("}{", "}\n{").strip()
        assert re.fullmatch(pattern_of(expected.strip()), flat, re.DOTALL), f"{code}\ngave\n{got}"


def test_the_table_of_errors_is_the_one_that_is_used() -> None:
    rows = re.findall(r"^\| (\d{3}) \| (`[^|]+) \|", GUIDE.read_text(), re.MULTILINE)
    told = {(int(status), code) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    unsaid = {ClientGone, Refused, UnsatisfiableRange}  # never sent, and special cases of others
    assert told == {(kind.status, cls.code) for cls, kind in KINDS.items() if cls not in unsaid}
