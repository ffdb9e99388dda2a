"""What tests of the command line share: a store nobody else knows, and the commands on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.cli_process import Cli


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Commands in this process, in an empty folder, with no settings but the kernel."""
    for name in [name for name in os.environ if name.startswith("GRAVITON_") and "KERNEL" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Cli(tmp_path / "store", capfd)
