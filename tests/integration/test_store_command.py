"""`graviton store`: init, adopt, and a check that runs the laws and finds a broken store."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from graviton.backends.filesystem import FsBlockStore
from graviton.cli.app import run
from tests.integration.command_runs import graviton, put_file


def test_init_prints_the_marker_once_made_and_again(tmp_path: Path) -> None:
    root = tmp_path / "store"
    made = graviton(root, "store", "init", "--json", "--chunker", "small", "--hash", "sha256")
    assert made.code == 0
    marker = json.loads((root / "graviton-store.json").read_bytes())
    assert made.objects == [{"created": True} | marker]
    assert (marker["hash"], marker["chunker"]) == ("sha256", "w16-v1:16384:65536:262144")
    again = graviton(root, "store", "init", "--json")
    assert again.objects == [{"created": False} | marker]
    text = graviton(root, "store", "init").out
    assert marker["store_id"] in text
    assert graviton(root, "store", "init", "--chunker", "nonsense").code == 2
    assert graviton(root, "store").code == 2


def test_adopt_joins_what_was_separated(tmp_path: Path) -> None:
    root = tmp_path / "store"
    blob = put_file(root, tmp_path / "file", b"some bytes")
    marker = (root / "graviton-store.json").read_bytes()
    (root / "graviton-store.json").unlink()
    assert graviton(root, "stat", blob).code == 1
    adopted = graviton(root, "store", "adopt")
    assert adopted.code == 0
    assert "verify --all" in adopted.err
    assert (root / "graviton-store.json").read_bytes() == marker
    assert graviton(root, "verify", "--all").code == 0


def test_adopt_gives_up_blocks_only_when_told_so(tmp_path: Path) -> None:
    root = tmp_path / "store"
    put_file(root, tmp_path / "file", b"some bytes")
    for path in root.glob("meta.sqlite*"):
        path.unlink()
    refused = graviton(root, "store", "adopt")
    assert refused.code == 1
    assert "meta restore" in refused.err
    assert "--without-metadata" in refused.err
    assert graviton(root, "store", "adopt", "--without-metadata").code == 0
    assert graviton(root, "put", tmp_path / "file").code == 0
    assert graviton(root, "verify", "--all").code == 0


def test_check_runs_the_laws_beside_the_data_and_touches_nothing(tmp_path: Path) -> None:
    root = tmp_path / "store"
    put_file(root, tmp_path / "file", b"some bytes")
    before = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    checked = graviton(root, "store", "check", "--port", "BlockReclaimer", "--json")
    *laws, summary = checked.objects
    assert checked.code == 0, checked.out
    assert len(laws) > 10
    assert {law["port"] for law in laws} == {"BlockReclaimer"}
    assert (summary["kept"], summary["broken"]) == (sum(law["outcome"] == "kept" for law in laws), 0)
    assert summary["kept"] > 10
    assert {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()} == before


def test_check_covers_every_port_of_a_store(tmp_path: Path) -> None:
    run = graviton(
        tmp_path, "store", "check", "--json", GRAVITON_BLOB_BACKEND="memory", GRAVITON_METADATA="memory"
    )  # fmt: skip
    *laws, summary = run.objects
    ports = {"BlockStore", "BlockReclaimer", "KeyValueStore", "BlockIndex", "BlobManifestRepo", "BlobStore"}
    assert {law["port"] for law in laws} == ports
    assert summary["clean"] is (summary["broken"] == 0)
    assert run.code == (1 if summary["broken"] else 0)


def test_check_finds_a_broken_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def everything_exists(self: FsBlockStore, keys: list[object]) -> list[bool]:
        return [True] * len(keys)

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command line sets its own
    monkeypatch.setattr(FsBlockStore, "exists_many", everything_exists)
    code = run(["--root", str(tmp_path), "store", "check", "--port", "BlockStore"])
    out = capsys.readouterr().out
    assert code == 1
    assert "broken   BlockStore: missing block is not found" in out
    assert list(tmp_path.iterdir()) == []


def test_check_needs_a_folder_and_a_port_that_exists(tmp_path: Path) -> None:
    assert graviton(tmp_path / "none", "store", "check").code == 1
    wrong = graviton(tmp_path, "store", "check", "--port", "Nonsense")
    assert wrong.code == 2
    assert "BlockStore" in wrong.err
    assert list(tmp_path.iterdir()) == []
