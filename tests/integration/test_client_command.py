"""`graviton --url`: what the commands say of a store behind a URL is what they say of one here."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.http_spaces import TOKEN, Served
from tests.integration.cli_process import Outcome, damage

TIMES = frozenset({"seconds", "created"})
"""Members whose values are another's every time; `created` of a put is a claim, and compared."""


class Both:
    """The same commands on two stores: one here, one behind a URL."""

    def __init__(self, here: Path, served: Served, capfd: pytest.CaptureFixture[str]) -> None:
        place = served.place()
        self.roots = (here, place.base)
        self.url = place.url
        self._capfd = capfd
        assert self.run(["--root", str(here)], "store", "init", "--chunker", "small").code == 0

    def run(self, place: list[str], *args: str | os.PathLike[str]) -> Outcome:
        from graviton.cli.app import run

        self._capfd.readouterr()
        code = run([*place, *map(os.fspath, args)])
        out, err = self._capfd.readouterr()
        return Outcome(code, out, err)

    def __call__(self, *args: str | os.PathLike[str]) -> Outcome:
        """Run a command on both; what it did, which must have been the same."""
        one, other = (self.run(place, *args) for place in (["--root", str(self.roots[0])], ["--url", self.url]))
        assert (other.code, _told(other.out)) == (one.code, _told(one.out)), other.err
        assert _told(other.err) == _told(one.err)
        return other


def _told(text: str) -> list[Any]:
    """Lines without what is never the same."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("{"):
            lines.append(line)
            continue
        found = json.loads(line)
        lines.append(
            {name: "" if name in TIMES and not isinstance(value, bool) else value for name, value in found.items()}
        )
    return lines


@pytest.fixture
def both(tmp_path: Path, served: Served, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Both:
    for name in [name for name in os.environ if name.startswith("GRAVITON_") and "KERNEL" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRAVITON_API_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    return Both(tmp_path / "store", served, capfd)


def test_files_go_in_and_out(both: Both, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(data)
    (tmp_path / "small").write_bytes(b"small")
    put = both("put", "big", "small", "--json", "--attr", "project=x", "--mime", "text/plain")
    assert [found["created"] for found in put.objects] == [True, True]
    again = both("put", "big", "--json")
    assert (again.objects[0]["created"], again.objects[0]["fresh_blocks"]) == (False, 0)
    blob = put.objects[0]["id"]
    digits = blob.split(":")[1][:10]
    assert both("get", digits, "-o", "copy", "--json").code == 0
    assert (tmp_path / "copy").read_bytes() == data
    both("get", blob, "--range", "100-2000000", "-o", "part", "--json")
    assert (tmp_path / "part").read_bytes() == data[100:2_000_001]
    assert both("cat", put.objects[1]["id"], put.objects[1]["id"]).out == "smallsmall"
    both("stat", digits, "--json")
    assert len(both("stat", digits, "--blocks", "--json").objects) == put.objects[0]["blocks"] + 1
    assert len(both("ls", "--json").objects) == 2
    both("ls", "--long", "--prefix", digits, "--limit", "1", "--json")
    both("stats", "--json")
    both("verify", blob, "--json")
    both("rm", blob, "--json")
    assert both("verify", blob, "--json").code == 1
    assert len(both("ls").out.split()) == 1


def test_options_of_put_are_those_of_the_store(both: Both, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    warnings.simplefilter("always")
    put = both("put", "file", "--hash", "sha256", "--chunker", "fixed:10000B", "--no-name", "--json")
    assert put.err.count("shares no blocks with what is there") == 2
    [found] = put.objects
    assert found["id"].startswith("sha256:")
    assert found["chunker"] == "fixed-v1:10000"
    both("stat", found["id"], "--blocks", "--json")
    both("put", "file", "--limit-rate", "100MB", "--json")


def test_trees_go_in_and_out(both: Both, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for number in range(20):
        (tree / "sub" / f"f{number}").write_bytes(b"%d" % number * number)
    (tree / "link").symlink_to("sub/f3")
    put = both("put", "-r", "tree", "--json")
    listing = put.objects[-1]["id"]
    got = both("get", listing, "-o", "again", "--json")
    assert got.objects[0]["files"] == 20
    assert (tmp_path / "again/sub/f9").read_bytes() == b"9" * 9


def test_errors_are_the_same(both: Both, tmp_path: Path) -> None:
    missing = "blake3:" + "0" * 64 + ":5"
    for args in (["get", missing, "-o", "x"], ["stat", missing], ["rm", missing], ["cat", missing], ["stat", "0" * 8]):
        assert both(*args, "--json").code == 1
    assert both("put", "nothing", "--json").code == 1
    assert both("put", str(tmp_path), "--json").code == 1
    assert both("ls", "--prefix", "md5:").code == 2
    (tmp_path / "file").write_bytes(b"x")
    [blob] = both("put", "file").ids
    assert both("get", blob, "--range", "5-9", "-o", "x", "--json").code == 1


def test_standard_input_and_output(both: Both, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(os.urandom(1_500_000))

    with open("in") as file:
        monkeypatch.setattr("sys.stdin", file)
        [found] = both.run(["--url", both.url], "put", "-", "--json").objects
    assert (found["size"], found["path"]) == (1_500_000, "-")


def test_verify_names_what_is_damaged_as_the_store_does(both: Both, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(os.urandom(50_000))
    (tmp_path / "bad").write_bytes(os.urandom(2_000_000))
    bad = both("put", "bad", "good", "--json").objects[0]["id"]
    blocks = both("stat", bad, "--blocks", "--json").objects[1:]
    for number in (3, 4, len(blocks) - 1):
        for root in both.roots:
            damage(root, blocks[number]["key"])
    found = [
        both.run(place, "verify", "--all", "--json") for place in (["--root", str(both.roots[0])], ["--url", both.url])
    ]
    assert [one.code for one in found] == [1, 1]
    here, there = ([o for o in one.objects if "damage" in o] for one in found)
    assert len(here) == len(there) == 3
    for one, other in zip(here, there, strict=True):
        assert {k: v for k, v in one.items() if k != "message"} == {k: v for k, v in other.items() if k != "message"}
    sums = [one.objects[-1] for one in found]
    for name in ("summary", "clean", "blobs", "damaged_blobs", "damages", "logical_bytes"):
        assert sums[0][name] == sums[1][name], name
    assert set(sums[0]) == set(sums[1])
    both("put", "bad", "--json")
    assert both.run(["--url", both.url], "verify", "--all").code == 0


def test_other_commands_say_that_they_need_the_store(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    for args in (
        ["store", "check"],
        ["meta", "repair-totals"],
        ["doctor"],
        ["chunk", "x"],
        ["db", "status"],
        ["serve"],
    ):
        done = both.run(["--url", both.url], *args)
        assert (done.code, "runs on the store itself" in done.err) == (2, True), args
    monkeypatch.setenv("GRAVITON_URL", both.url)
    assert both.run([], "ls").code == 0
    done = both.run([], "doctor")
    assert (done.code, "GRAVITON_URL" in done.err) == (1, True)
    assert both.run(["--root", str(both.roots[0])], "stats").code == 0, "--root wins over GRAVITON_URL"
    assert both.run(["--root", "x", "--url", both.url], "ls").code == 2
    assert both.run(["--url", both.url], "verify", "--all", "--quick").code == 2


def test_token_is_in_no_message(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = "another-token-that-is-wrong-but-secret"
    monkeypatch.setenv("GRAVITON_API_TOKEN", wrong)
    done = both.run(["--url", both.url, "--debug"], "ls")
    assert done.code == 1
    assert "GRAVITON_API_TOKEN" in done.err
    assert wrong not in done.err + done.out
    for url in (
        "http://user:pass-word@127.0.0.1:1",
        "http://",
        "http://host:99999",
        "ftp://x",
        "http://a b",
        "http://h?q",
    ):
        done = both.run(["--url", url], "ls")
        assert (done.code, "pass-word" in done.err) == (2, False), url


def test_ids_complete(both: Both, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click import Context

    from graviton.cli.app import cli
    from graviton.cli.complete_ids import complete_ids

    (tmp_path / "file").write_bytes(b"x")
    [blob] = both("put", "file").ids
    monkeypatch.setenv("GRAVITON_URL", both.url)
    [item] = complete_ids(Context(cli), cli.params[0], blob[7:12])
    assert item.value == blob.split(":")[1]
    monkeypatch.setenv("GRAVITON_URL", "http://127.0.0.1:9")
    assert complete_ids(Context(cli), cli.params[0], "a") == []
