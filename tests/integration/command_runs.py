"""Running `graviton` as people do: a process of its own, its exit code and what it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.cli_process import Outcome


def graviton(root: Path, *args: str | Path, stdin: bytes = b"", **environment: str) -> Outcome:
    """Run one command on the store in `root`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GRAVITON_")}
    kernel = {name: os.environ[name] for name in ("GRAVITON_KERNEL",) if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "graviton.cli.main", "--root", str(root), *map(str, args)],
        input=stdin,
        capture_output=True,
        env=inherited | kernel | environment,
        timeout=120,
        check=False,
    )
    run = Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in run.err, run.err
    return run


def put_file(root: Path, path: Path, data: bytes) -> str:
    """Store `data` as a file of small blocks; its id."""
    path.write_bytes(data)
    run = graviton(root, "put", path, "--chunker", "fixed-v1:64KiB", "--json")
    assert run.code == 0, run.err
    return str(run.objects[0]["id"])


def block_files(root: Path) -> list[Path]:
    """The blocks, as files, in the order of their names."""
    return sorted((root / "cas" / "blocks" / "blake3").iterdir())
