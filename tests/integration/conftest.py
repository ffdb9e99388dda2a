"""What tests of the command line share: a store nobody else knows, and the commands on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from tests.http_spaces import Served, spaces
from tests.integration.cli_process import MIB, Cli, stored


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Commands in this process, in an empty folder, with no settings but the kernel."""
    for name in [name for name in os.environ if name.startswith("GRAVITON_") and "KERNEL" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path / "store", capfd)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server in a process of its own, with a store for each that asks."""
    with spaces(tmp_path_factory.mktemp("spaces")) as found:
        yield found


@pytest.fixture
def hello(tmp_path: Path) -> tuple[Path, str]:
    """A file and its id."""
    path = tmp_path / "hello.txt"
    path.write_bytes(b"hello")
    return path, f"blake3:{blake3(b'hello').hexdigest()}:5"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the store of real processes will be."""
    return tmp_path / "store"


@pytest.fixture
def big(tmp_path: Path, root: Path) -> str:
    """The id of 24 MiB in the store."""
    (tmp_path / "big").write_bytes(os.urandom(24 * MIB))
    return stored(root, tmp_path / "big")
