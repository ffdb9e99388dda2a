"""`make demo`, in small: two states of a folder, stored and read back; exit code 1 if anything differs."""

from __future__ import annotations

import io
import json
import random
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path

import pytest

from graviton.assembly.settings import Settings
from graviton.assembly.store import Store
from graviton.cli import demo
from graviton.cli.app import run
from graviton.cli.output import Output
from graviton.services.demo_data import change, library_members, tar_pieces


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "library"
    (folder / "package" / "__pycache__").mkdir(parents=True)
    (folder / "package" / "__pycache__" / "made.pyc").write_bytes(b"changes while we look")
    (folder / ("long" * 40)).write_bytes(b"a name for which a tar needs a header of its own")
    (folder / "link").symlink_to("package")
    for number in range(120):
        data = random.Random(number).randbytes(20_000 + number)
        (folder / "package" / f"module{number:03}.py").write_bytes(data)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr(demo, "_library", lambda: folder)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command line sets its own
    monkeypatch.setenv("GRAVITON_CHUNKER", "small")
    return folder


def test_both_states_come_back_and_the_second_shares_blocks(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", "--json"]) == 0
    found = {one["demo"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found["first"]["size"] > 120 * 20_000
    assert 0 < found["second"]["fresh_bytes"] < found["second"]["size"] / 2
    assert found["first back"]["same"] is found["second back"]["same"] is found["done"]["same"] is True
    assert found["first back"]["sha256"] != found["second back"]["sha256"]
    assert found["totals"]["stored_bytes"] < found["totals"]["logical_bytes"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_different_bytes_are_noticed(
    library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put = Store.put

    async def put_something_else(self: Store, source: object, plan: object = None) -> object:
        return await put(self, Path(str(source)).read_bytes()[:-1] + b"x")

    monkeypatch.setattr(Store, "put", put_something_else)
    assert run(["demo"]) == 1
    assert "DIFFERENT BYTES" in capsys.readouterr().out


def test_text_tells_a_newcomer_what_to_try(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo"]) == 0
    out = capsys.readouterr().out
    for words in ("deduplication saved", "the same bytes", "graviton put FILE", "graviton verify --all"):
        assert words in out


@pytest.mark.parametrize(("choice", "lines"), [("auto", 1), ("python", 0)])
def test_a_kernel_that_is_missing_is_told_once_and_one_that_was_chosen_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], choice: str, lines: int
) -> None:
    monkeypatch.setattr("graviton.core.chunking._kernel._selected", {})
    monkeypatch.setitem(sys.modules, "graviton_kernel", None)  # importing it fails
    assert demo._kernel(Output(), Settings(kernel=choice)).name == "python"
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_tar_is_one_and_the_same_every_time(library: Path) -> None:
    members = library_members(library, 1 << 30)
    data = b"".join(tar_pieces(members))
    assert data == b"".join(tar_pieces(library_members(library, 1 << 30)))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        assert len(names) == 121
        assert not any("__pycache__" in name or "link" in name for name in names)
        for member in members:
            extracted = tar.extractfile(f"library/{member.name}")
            assert extracted is not None
            assert member.path is not None
            assert extracted.read() == member.path.read_bytes()


def test_second_state_differs_as_told(library: Path) -> None:
    members = library_members(library, 1 << 30)
    changed, changes = change(members)
    assert len(changed) == len(members) - changes.removed + changes.inserted
    assert sum(1 for one in changed if one.path is not None and one.inserted) == changes.edited > 0
    assert sum(1 for one in changed if one.path is None) == changes.inserted > 0
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_pieces(changed)))) as tar:
        assert len(tar.getnames()) == len(changed)


def test_size_of_the_input_is_bounded(library: Path) -> None:
    members = library_members(library, 500_000)
    assert 400_000 < sum(member.size for member in members) <= 500_000
