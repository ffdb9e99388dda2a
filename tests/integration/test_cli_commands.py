from __future__ import annotations

import errno
import io
import json
import os
import stat
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from graviton.cli.app import COMMANDS, cli
from tests.integration.cli_process import Cli

MIB = 1024 * 1024


@pytest.fixture
def hello(tmp_path: Path) -> tuple[Path, str]:
    """A file and its id."""
    path = tmp_path / "hello.txt"
    path.write_bytes(b"hello")
    return path, f"blake3:{blake3(b'hello').hexdigest()}:5"


def damage(root: Path, blob: str) -> None:
    algo, digest, size = blob.split(":")
    block = root / "cas/blocks" / algo / f"{digest}-{size}"
    os.chmod(block, 0o600)
    data = bytearray(block.read_bytes())
    data[len(data) // 2] ^= 1
    block.write_bytes(data)


# put


@pytest.mark.parametrize("group", ["store", "meta"])
def test_a_group_without_its_command_says_so_in_one_line(run: Cli, group: str) -> None:
    done = run(group)
    assert done.code == 2
    assert done.err == f"graviton: a command is missing. Try `graviton {group} --help`.\n"


def test_put_prints_the_id_and_the_path(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    done = run("put", path)
    assert done == (0, f"{blob}  {path}\n", "")


def test_put_json_has_every_member(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    [first] = run("put", path, "--json").objects
    assert first.pop("seconds") > 0
    assert first == {
        "id": blob,
        "path": str(path),
        "size": 5,
        "blocks": 1,
        "fresh_blocks": 1,
        "fresh_bytes": 5,
        "repaired_blocks": 0,
        "chunker": "w16-v1:262144:1048576:4194304",
        "created": True,
    }
    [again] = run("--json", "put", path).objects
    assert (again["fresh_blocks"], again["created"]) == (0, False)


def test_put_goes_on_after_a_failure(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    os.mkfifo(tmp_path / "pipe")
    done = run("put", "missing", tmp_path, tmp_path / "pipe", path)
    assert (done.code, done.ids) == (1, [blob])
    missing, folder, pipe = done.err.splitlines()
    assert "missing does not exist" in missing
    assert "is a directory" in folder
    assert "-r" in folder
    assert "is a pipe" in pipe
    objects = run("put", "missing", path, "--json").objects
    assert objects[0]["error"] == "not_found"
    assert objects[0]["subject"] == objects[0]["path"] == "missing"
    assert objects[1]["id"] == blob


def test_one_file_that_may_not_be_read_stops_no_other(
    run: Cli, hello: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, blob = hello
    (tmp_path / "secret").write_bytes(b"x")
    real = os.open

    def open_as_nobody(name: str, *args: object, **options: object) -> int:
        if os.fspath(name) == "secret":
            raise PermissionError(errno.EACCES, "")
        return real(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "access", lambda name, *_: os.fspath(name) != "secret")
    monkeypatch.setattr(os, "open", open_as_nobody)
    done = run("put", "secret", path, "--json")
    assert done.code == 1
    error, result = done.objects
    assert (error["error"], error["subject"]) == ("permission_denied", "secret")
    assert error["hint"]
    assert result["id"] == blob
    for args in (["get", blob, "-o", "secret"], ["meta", "backup", "secret"], ["--root", "secret", "ls"]):
        assert run(*args).code != 2
    assert (tmp_path / "secret").read_bytes() == b"hello"


@pytest.mark.parametrize(
    "args", [["get", "0" * 8, "-o", ""], ["--root", "", "ls"], ["put", ""], ["meta", "backup", ""]]
)
def test_an_empty_path_is_wrong_usage(run: Cli, hello: tuple[Path, str], args: list[str]) -> None:
    run("put", hello[0])
    done = run(*args)
    assert (done.code, done.out) == (2, "")
    assert "a path is not empty" in done.err


def test_an_unreadable_path_makes_no_store(run: Cli) -> None:
    assert run("put", "missing").code == 1
    assert run("put", "-r", "missing").code == 1
    assert not run.root.exists()


def test_put_keeps_what_it_is_told(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path, "--mime", "text/plain", "--attr", "colour=red", "--attr", "user.empty=", "--attr", "eq=a=b")
    [known] = run("stat", blob, "--json").objects
    assert (known["name"], known["mime"]) == ("hello.txt", "text/plain")
    mine = {name: value for name, value in known["attributes"].items() if name.startswith("user.")}
    assert mine == {"user.name": "hello.txt", "user.colour": "red", "user.empty": "", "user.eq": "a=b"}


def test_put_without_the_name(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path, "--no-name")
    assert run("stat", blob, "--json").objects[0]["name"] is None


@pytest.mark.filterwarnings("default::UserWarning")
def test_put_cuts_and_hashes_as_asked(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(10_000))
    run("put", "zeros")
    done = run("put", "zeros", "--chunker", "fixed:1000B", "--hash", "sha-256", "--json")
    [result] = done.objects
    assert result["id"].startswith("sha256:")
    assert (result["blocks"], result["fresh_blocks"], result["chunker"]) == (10, 1, "fixed-v1:1000")
    assert done.err.count("shares no blocks") == 2, "the chunker and the hash, once each"


def test_the_put_that_makes_the_store_makes_it_as_asked(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(10_000))
    done = run("put", "zeros", "--chunker", "fixed:1000B", "--hash", "sha256")
    assert (done.code, done.err) == (0, "")
    [marker] = run("store", "init", "--json").objects
    assert (marker["created"], marker["hash"], marker["chunker"]) == (False, "sha256", "fixed-v1:1000")
    again = run("put", "zeros", "--json")
    [result] = again.objects
    assert (result["id"], result["fresh_blocks"], again.err) == (done.ids[0], 0, "")


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_store_that_is_made_by_hand_is_made_as_asked(run: Cli) -> None:
    made = run("store", "init", "--chunker", "small", "--hash", "sha256", "--json").objects[0]
    assert (made["created"], made["hash"], made["chunker"]) == (True, "sha256", "w16-v1:16384:65536:262144")
    other = run("store", "init", "--hash", "blake3")
    assert (other.code, "there is a store" in other.out) == (0, True)
    assert "was made with hash sha256" in other.err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--chunker", "bogus"),
        ("--chunker", ""),
        ("--chunker", "w16:1:2:3"),
        ("--hash", "md5"),
        ("--mime", "nothing"),
        ("--attr", "novalue"),
        ("--attr", "=x"),
        ("--attr", "a b=x"),
        ("--limit-rate", "fast"),
        ("--limit-rate", "0"),
    ],
)
def test_a_malformed_option_is_wrong_usage_and_named(run: Cli, option: str, value: str) -> None:
    done = run("put", "x", option, value)
    assert done.code == 2
    assert done.out == ""
    assert option in done.err
    assert len(done.err.splitlines()) == 1
    assert option != "--chunker" or run("chunk", "x", option, value).err == done.err.replace(" put", " chunk")
    [error] = run("put", "x", option, value, "--json").objects
    assert error["error"] == "invalid_input"
    assert not run.root.exists()


def test_follow_goes_with_recursive(run: Cli) -> None:
    assert run("put", "--follow", "x").code == 2


@pytest.mark.parametrize("size", [5, 2 * MIB])
def test_a_file_that_changes_while_it_is_read_is_told(
    run: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    import graviton.cli.putting as putting

    def open_and_let_somebody_write(path: str) -> io.FileIO:
        file = open_regular(path)
        monkeypatch.setattr(os, "fstat", fstat_then_write)
        return file

    def fstat_then_write(fd: int) -> os.stat_result:
        monkeypatch.setattr(os, "fstat", fstat)
        info = fstat(fd)
        with open("log", "ab") as log:
            log.write(b"more")
        return info

    open_regular, fstat = putting.open_regular, os.fstat
    monkeypatch.setattr(putting, "open_regular", open_and_let_somebody_write)
    (tmp_path / "log").write_bytes(bytes(size))
    done = run("put", "log")
    assert done.code == 0
    assert done.err == "graviton: warning: log changed while it was read; it is stored as it was read\n"


def test_a_limited_put_stores_the_same(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    assert run("put", path, "--limit-rate", "10MB").ids == [blob]


def test_put_says_what_it_repaired(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path)
    damage(run.root, blob)
    assert run("cat", blob).code == 1
    done = run("put", path)
    assert done.code == 0
    assert "repaired 1 block" in done.err
    assert run("cat", blob).out == "hello"


def test_the_root_need_not_be_text(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run.root = tmp_path / "st\udcff"
    assert run("put", path).ids == [blob]
    assert run("verify", "--all").code == 0
    assert "there is a store at" in run("store", "init").out
    assert "/st\\xff\n" in run("store", "init").out
    roots = [check for check in run("doctor", "--json").objects if check.get("name") == "GRAVITON_FS_ROOT"]
    assert roots[0]["value"].endswith("st\\xff")
    assert run("meta", "backup", "b\udcff", "--json").objects[0]["file"] == "b\\xff"


def test_odd_names_stay_one_line(run: Cli, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/new\nline\xff")
    Path(odd).write_bytes(b"x")
    done = run("put", odd)
    assert done.out.endswith("new\\nline\\xff\n")
    assert len(done.out.splitlines()) == 1
    assert run("put", odd, "--json").objects[0]["path"].endswith("new\\nline\\xff")


# get and cat


def test_get_to_a_file(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run("put", path)
    old = tmp_path / "out"
    old.write_bytes(b"something longer than hello")
    os.chmod(old, 0o777)
    done = run("get", blob, "-o", old)
    assert done == (0, "", "")
    assert old.read_bytes() == b"hello"
    assert stat.S_IMODE(old.stat().st_mode) == 0o777, "as `>` would leave it"
    assert run("get", blob, "-o", old, "--json").objects[0].items() >= {"id": blob, "size": 5, "path": str(old)}.items()
    assert sorted(os.listdir(tmp_path)) == ["hello.txt", "out", "store"]


def test_get_into_a_folder_uses_the_kept_name(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run("put", path)
    folder = tmp_path / "folder"
    folder.mkdir()
    for _ in range(2):
        assert run("get", blob, "-o", folder).code == 0
    assert (folder / "hello.txt").read_bytes() == b"hello"
    (folder / "hello.txt").write_bytes(b"other")
    done = run("get", blob, "-o", folder)
    assert done.code == 1
    assert "--force" in done.err
    assert (folder / "hello.txt").read_bytes() == b"other"
    assert run("get", blob, "-o", folder, "--force").code == 0
    assert (folder / "hello.txt").read_bytes() == b"hello"


@pytest.mark.parametrize("name", ["../escape", "..", "/etc/x", "a/b", "bell\x07", "x" * 300])
def test_a_hostile_name_is_not_used(run: Cli, hello: tuple[Path, str], tmp_path: Path, name: str) -> None:
    path, blob = hello
    run("put", path, "--attr", f"name={name}")
    folder = tmp_path / "folder"
    folder.mkdir()
    assert run("get", blob, "-o", folder).code == 0
    assert os.listdir(folder) == [blob.split(":")[1]]


def test_get_through_a_link_replaces_what_it_leads_to(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run("put", path)
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "link").symlink_to("real")
    assert run("get", blob, "-o", "link").code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"hello"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(run: Cli, hello: tuple[Path, str], tmp_path: Path, mode: int) -> None:
    path, blob = hello
    run("put", path)
    for target, args in (("real", []), ("link", []), (".", ["--force"])):
        name = "hello.txt" if target == "." else "real"
        (tmp_path / name).write_bytes(b"old")
        (tmp_path / name).chmod(mode)
        if target == "link":
            (tmp_path / "link").symlink_to("real")
        assert run("get", blob, "-o", target, *args).code == 0
        assert (tmp_path / name).read_bytes() == b"hello"
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
    assert run("get", blob, "-o", "new").code == 0
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def test_a_device_is_written_to_and_not_replaced(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run("put", path)
    (tmp_path / "null").symlink_to("/dev/null")
    assert run("get", blob, "-o", "null").code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert (tmp_path / "null").is_symlink()


@pytest.mark.parametrize(
    ("text", "expected"), [("1-3", "ell"), ("2-", "llo"), ("-2", "lo"), ("0-99", "hello"), ("1-" + "9" * 90, "ello")]
)
def test_get_a_range(run: Cli, hello: tuple[Path, str], text: str, expected: str) -> None:
    path, blob = hello
    run("put", path)
    assert run("get", blob, "--range", text).out == expected


@pytest.mark.parametrize(("text", "code"), [("5-", 1), ("-0", 1), ("3-1", 2), ("x", 2), ("1", 2), ("-", 2)])
def test_a_range_that_cannot_be(run: Cli, hello: tuple[Path, str], tmp_path: Path, text: str, code: int) -> None:
    path, blob = hello
    run("put", path)
    done = run("get", blob, "--range", text, "-o", "out")
    assert (done.code, done.out) == (code, "")
    assert text in done.err
    assert not (tmp_path / "out").exists()


def test_a_range_of_a_listing_goes_to_a_file(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    listing = run("put", "-r", "tree").ids[-1]
    for target in ("tree", "new/"):
        done = run("get", listing, "-o", target, "--range", "0-17")
        assert (done.code, "--range" in done.err) == (2, True)
    assert os.listdir(tmp_path / "tree") == []
    assert run("get", listing, "-o", "head", "--range", "0-17").code == 0
    assert (tmp_path / "head").read_bytes() == b"graviton-listing 1"


LONG = "a" * 70_000


@pytest.mark.parametrize(
    "args",
    [
        ["put", "x", "--attr", f"big={LONG}"], ["put", "x", "--attr", f"{LONG}={LONG}"], ["put", "x", "--mime", LONG],
        ["put", "x", "--hash", LONG], ["cat", LONG], ["cat", f"{LONG}:{LONG}:1"], ["rm", f"blake3:{LONG}"],
        ["ls", "--limit", LONG], [LONG], ["put", f"--{LONG}"], ["ls", "--prefix", LONG],
        ["get", "00000000", "--range", f"5-{LONG}"], ["store", "check", "--port", LONG],
    ],
)  # fmt: skip
def test_what_was_typed_is_repeated_and_bounded(run: Cli, hello: tuple[Path, str], args: list[str]) -> None:
    run("put", hello[0])
    done = run(*args)
    assert done.code == 2
    assert 20 < len(done.err) < 1000
    assert len(run(*args, "--json").out) < 1000


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["put", "--vorbose", "x"], "'--verbose'? Try `graviton put --help`."),
        (["put", "x", "--chunker", "fixed:1"], "fixed-v1: size is at least 64 bytes"),
        (["put", "x", "--chunker", "fixed:17MiB"], "fixed-v1: size is at most"),
        (["ls", "--prefix", "zz"], "--prefix: no id begins with 'zz'"),
        (["ls", "--prefix", "blake3:zz"], "--prefix: no id begins with 'blake3:zz'"),
    ],
)
def test_wrong_usage_says_what_is_right(run: Cli, hello: tuple[Path, str], args: list[str], said: str) -> None:
    run("put", hello[0])
    done = run(*args)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_every_failure_says_what_to_do_next(
    run: Cli, hello: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, blob = hello
    run("put", path)
    no_blob = f"blake3:{'0' * 64}:5"
    for args in (
        ["chunk", "nope"], ["chunk", "."], ["rm", no_blob], ["stat", no_blob], ["get", no_blob], ["put", "nope"],
        ["get", blob, "-o", "no/such/folder"], ["get", blob, "-o", "hello.txt/x"], ["meta", "backup", "hello.txt"],
        ["--root", "elsewhere", "ls"], ["get", blob, "-o", "n" * 300],
    ):  # fmt: skip
        [error] = run("--json", *args).objects
        assert error["hint"], args
        assert "graviton-store.json" not in error["message"]
    real = os.open

    def open_as_nobody(name: str | bytes, *rest: object, **options: object) -> int:
        if os.fsencode(name).endswith(b".tmp"):
            raise PermissionError(errno.EACCES, "")
        return real(name, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", open_as_nobody)
    done = run("get", blob, "-o", "out")
    assert done.err.startswith("graviton: cannot write: out: Permission denied. Check the owner and mode")


def test_a_store_in_memory_has_a_place(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAVITON_BLOB_BACKEND", "memory")
    monkeypatch.setenv("GRAVITON_METADATA", "memory")
    assert "there is no store at memory://. " in run("ls").err


def test_damage_leaves_no_file_and_no_wrong_byte(run: Cli, tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(os.urandom(3 * MIB))
    [blob] = run("put", source, "--chunker", "fixed:1MiB").ids
    blocks = run("stat", blob, "--blocks", "--json").objects[1:]
    damage(run.root, blocks[1]["key"])
    done = run("get", blob, "-o", "out")
    assert done.code == 1
    assert f"{MIB}-{2 * MIB - 1}" in done.err, "the byte range"
    assert blob in done.err
    assert blocks[1]["key"] in done.err
    assert sorted(os.listdir(tmp_path)) == ["big", "store"]
    with open(tmp_path / "piped", "wb") as out:
        saved = os.dup(1)
        os.dup2(out.fileno(), 1)
        try:
            code = run("cat", blob).code
        finally:
            os.dup2(saved, 1)
            os.close(saved)
    assert code == 1
    assert (tmp_path / "piped").read_bytes() == source.read_bytes()[:MIB]
    assert run("get", blob, "--range", f"0-{MIB - 1}", "-o", "out").code == 0


def test_a_refused_listing_leaves_no_folder(run: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"no listing\n")
    [blob] = run("put", "bad", "--mime", "application/vnd.graviton.listing").ids
    done = run("get", blob, "-o", "a/b/c")
    assert done.code == 1
    assert "this is not a listing" in done.err
    assert "graviton cat" in done.err, "what to do next"
    assert not (tmp_path / "a").exists()


def test_a_tree_that_is_the_store_itself_makes_no_store(run: Cli) -> None:
    run.root.mkdir()
    (run.root / "file").write_bytes(b"x")
    done = run("put", "-r", run.root)
    assert done.code == 1
    assert "belongs to the store itself" in done.err
    assert os.listdir(run.root) == ["file"]


def test_get_where_nothing_can_be_written(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    run("put", path)
    for target in ("no/such/folder/out", "hello.txt/out", "missing/"):
        done = run("get", blob, "-o", target)
        assert done.code == 1
        assert len(done.err.splitlines()) == 1


def test_cat_joins_blobs(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, blob = hello
    (tmp_path / "b").write_bytes(b", world")
    ids = run("put", path, "b").ids
    assert run("cat", *ids, blob[7:15]).out == "hello, worldhello"


def test_an_error_before_the_first_byte_is_an_object_on_stdout(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path)
    missing = blob.replace(":5", ":6")
    for args in (("cat", missing), ("get", missing), ("get", missing, "-o", "x")):
        done = run(*args, "--json")
        assert (done.code, done.objects[0]["error"], done.err) == (1, "not_found", "")
    done = run("get", missing, "-o", "-", "--json")
    assert done.out == ""
    assert json.loads(done.err)["error"] == "not_found"


# stat, ls, rm


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


# what all share


def test_a_shortened_id_serves_everywhere(run: Cli, hello: tuple[Path, str]) -> None:
    path, blob = hello
    run("put", path)
    for text in (blob[7:15], blob[:15], blob.rsplit(":", 1)[0]):
        assert run("cat", text).out == "hello"
        assert run("get", text, "-o", "-").out == "hello"
        assert run("stat", text, "--json").objects[0]["id"] == blob
    for text, code in (("0" * 7, 2), ("0" * 8, 1), ("xyz", 2)):
        for command in (("cat",), ("get", "-o", "x"), ("stat",), ("rm", "--yes")):
            done = run(*command, text)
            assert done.code == code
            assert len(done.err.splitlines()) == 1


def test_reading_commands_make_no_store(run: Cli, tmp_path: Path) -> None:
    for args in (("ls",), ("stat", "0" * 8), ("cat", "0" * 8), ("get", "0" * 8, "-o", "x"), ("rm", "--yes", "0" * 8)):
        done = run(*args)
        assert done.code == 1
        assert "no store" in done.err
        assert "--root" in done.err
    assert os.listdir(tmp_path) == []


def test_the_environment_names_the_store_and_is_checked(
    run: Cli,
    hello: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from graviton.cli.app import run as run_bare

    monkeypatch.setenv("GRAVITON_FS_ROOT", str(tmp_path / "elsewhere"))
    assert run_bare(["put", str(hello[0])]) == 0
    assert (tmp_path / "elsewhere").is_dir()
    monkeypatch.setenv("GRAVITON_TYPO", "x")
    assert run_bare(["ls"]) == 0
    assert "GRAVITON_TYPO" in capfd.readouterr().err
    assert run_bare(["ls", "-q"]) == 0
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("GRAVITON_HASH", "crc32")
    assert run_bare(["ls"]) == 1
    assert "GRAVITON_HASH" in capfd.readouterr().err


def test_another_folder_is_no_store_and_is_not_touched(run: Cli, hello: tuple[Path, str], tmp_path: Path) -> None:
    path, _ = hello
    run("put", path)
    other = Cli(tmp_path / "other", run._capfd)
    other("put", path)
    (run.root / "graviton-store.json").write_bytes((other.root / "graviton-store.json").read_bytes())
    for args in (("put", path), ("ls",)):
        done = run(*args)
        assert done.code == 1
        assert len(done.err.splitlines()) == 1
        assert run(*args, "--json").objects[0]["error"] == "config"


@pytest.mark.parametrize("args", [[], ["frob"], ["put"], ["put", "--frob", "x"], ["get"], ["ls", "--limit", "x"]])
def test_wrong_usage_is_one_line_and_exit_2(run: Cli, args: list[str]) -> None:
    done = run(*args)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert "--help" in done.err
    done = run("--json", *args)
    assert done.code == 2
    assert [each["error"] for each in done.objects] == ["invalid_input"]


def test_help_loads_no_command_and_names_all(run: Cli) -> None:
    loaded = [name for name in sys.modules if name.startswith("graviton.cli.")]
    out = run("--help").out
    assert all(name in out for name in COMMANDS)
    assert [name for name in sys.modules if name.startswith("graviton.cli.")] == loaded


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_that_begins_as_the_table_says(run: Cli, name: str) -> None:
    done = run(name, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: graviton {name}")


def test_the_table_names_what_is_there() -> None:
    import click

    with click.Context(cli) as context:
        for name in COMMANDS:
            command = cli.get_command(context, name)
            assert command is not None
            assert command.name == name


def test_a_bug_is_one_line_without_debug(run: Cli, hello: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("graviton.assembly.store.Store.put", broken)
    done = run("put", hello[0])
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert "--debug" in done.err
    assert "Traceback" in run("put", hello[0], "--debug").err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Cli, shell: str) -> None:
    done = run("completion", shell)
    assert done.code == 0
    assert "_GRAVITON_COMPLETE" in done.out
    assert f"{shell}_complete" in done.out


def test_ids_and_names_complete(run: Cli, hello: tuple[Path, str]) -> None:
    from click.shell_completion import BashComplete

    path, blob = hello
    run("put", path)

    def complete(args: list[str], incomplete: str) -> list[str]:
        found = BashComplete(cli, {}, "graviton", "_GRAVITON_COMPLETE").get_completions(args, incomplete)
        return [item.value for item in found]

    root = ["--root", str(run.root)]
    assert complete([], "sta") == ["stat", "stats"]
    assert complete(["get"], "--ran") == ["--range"]
    digest = blob.split(":")[1]
    for command in ("get", "cat", "stat", "rm", "verify"):
        assert complete([*root, command], digest[:1]) == [digest]
        assert complete([command, *root], digest[:5]) == [digest]
    assert complete([*root, "stat"], "blake3:") == [blob]
    assert complete(["stat", "--root", "/no/such/store"], "a") == []
    assert complete([*root, "stat"], "zz") == []
    assert complete([*root, "stat"], "blak") == [blob]
    assert complete(["put", "--chunker"], "s") == ["speed", "small"]
    assert complete(["chunk", "--chunker"], "d") == ["dedup"]
    assert complete(["store", "init", "--hash"], "") == ["blake3", "sha256"]


@pytest.mark.parametrize(
    ("words", "at", "offered"),
    [
        (["stat", "blake3", ":", "{digits}"], 4, ["{rest}"]),
        (["stat", "blake3", ":"], 3, ["{rest}"]),
        (["cat", "blake3", ":", "{digits}", "blake3", ":", "{digits}"], 7, ["{rest}"]),
        (["stat", "blake3:{digits}"], 2, ["blake3:{rest}"]),
        (["stat", "{digits}"], 2, ["{digest}"]),
        (["stat", "blake3", ":", "{digits}", ""], 5, None),
        (["stat"], 2, ["{digest}"]),
        (["put", "--chunker", "=", "sp"], 4, ["speed"]),
        (["put", "--hash", "="], 3, ["blake3", "sha256"]),
    ],
)
def test_bash_splits_words_at_colons_and_ids_complete(
    run: Cli,
    hello: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    at: int,
    offered: list[str] | None,
) -> None:
    path, blob = hello
    run("put", path)
    digest = blob.split(":")[1]
    values = {"digits": digest[:3], "digest": digest, "rest": blob.partition(":")[2]}
    monkeypatch.setenv("GRAVITON_FS_ROOT", str(run.root))
    monkeypatch.setenv("_GRAVITON_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "\n".join(["graviton", *words]).format(**values))
    monkeypatch.setenv("COMP_CWORD", str(at))
    done = run()
    assert done.code == 0
    if offered is not None:
        assert done.out.splitlines() == [f"plain,{text.format(**values)}" for text in offered]


def test_many_small_files_are_put_together_in_their_order(run: Cli, tmp_path: Path) -> None:
    names = [f"f{number:02}" for number in range(40)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "large").write_bytes(bytes(300 * 1024))
    paths = [*names[:20], "large", "missing", *names[20:]]
    results = run("put", *paths, "--json").objects
    assert [each["path"] for each in results] == paths
    assert [each["path"] for each in results if "error" in each] == ["missing"]
    seconds = {each["seconds"] for each in results if each["path"] in names[:20]}
    assert len(seconds) == 1, "one group takes one time"
    names_kept = {each["name"] for each in run("ls", "--json").objects}
    assert names_kept == {*names, "large"}
