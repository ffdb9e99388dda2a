"""What a shell is told to complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from graviton.cli.app import cli
from tests.integration.cli_process import Cli


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
