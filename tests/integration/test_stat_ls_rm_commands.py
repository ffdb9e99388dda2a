"""`graviton stat`, `ls` and `rm`."""

from __future__ import annotations

from pathlib import Path

from tests.integration.cli_process import Cli


def test_stat_for_people(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path)
    out = run("stat", blob[:20]).out
    for part in (blob, "w16-v1:262144:1048576:4194304", "hello.txt", "created"):
        assert part in out


def test_stat_blocks(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(2500))
    [blob] = run("put", "f", "--chunker", "fixed:1000B").ids
    whole, *blocks = run("stat", blob, "--blocks", "--json").objects
    assert (whole["id"], whole["size"], whole["blocks"]) == (blob, 2500, 3)
    assert [(block["offset"], block["size"]) for block in blocks] == [(0, 1000), (1000, 1000), (2000, 500)]
    assert blocks[0]["key"] == blocks[1]["key"]
    assert len(run("stat", blob, "--blocks").out.splitlines()) >= 9


def test_ls_in_order_with_limit_and_prefix(run: Cli, tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"f{number}").write_bytes(b"%d" % number)
    ids = run("put", *(f"f{number}" for number in range(30))).ids
    assert run("ls").out.splitlines() == sorted(ids)
    assert run("ls", "--limit", "7").out.splitlines() == sorted(ids)[:7]
    assert run("ls", "--limit", "0").out == ""
    some = ids[3][7:9]
    expected = sorted(blob for blob in ids if blob[7:9] == some)
    assert run("ls", "--prefix", some).out.splitlines() == expected
    assert run("ls", "--prefix", "blake3:" + some).out.splitlines() == expected
    assert run("ls", "--prefix", "sha256:").out == ""
    objects = run("ls", "--json", "--limit", "2").objects
    assert [each["id"] for each in objects] == sorted(ids)[:2]
    assert {"id", "size", "name", "created", "blocks"} <= objects[0].keys()
    assert "f3" in run("ls", "--long", "--prefix", ids[3]).out
    assert run("ls", "--limit", "-1").code == 2


def test_rm_says_what_it_did_and_goes_on(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    (tmp_path / "b").write_bytes(b"b")
    _, other = run("put", path, "b").ids
    missing = blob.replace(":5", ":6")
    done = run("rm", missing, blob)
    assert done.code == 1
    assert blob in done.out
    assert missing in done.err
    assert "garbage collection" in done.err
    assert run("ls").out.split() == [other]
    done = run("rm", "--json", blob, other)
    assert done.code == 1
    assert [each.get("error", "removed") for each in done.objects] == ["not_found", "removed"]


def test_rm_of_a_shortened_id_needs_yes(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path)
    done = run("rm", blob[7:20])
    assert done.code == 2
    assert "--yes" in done.err
    assert run("ls").out.split() == [blob]
    assert run("rm", "--yes", blob[7:20]).code == 0
    assert run("ls").out == ""
