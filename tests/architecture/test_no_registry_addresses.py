"""Where packages come from is the business of each machine's settings; the locks hold hashes, which fit any mirror."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Written with brackets, so that this file does not find itself.
ADDRESS = re.compile(
    rb"pypi[.]org|pythonhosted[.]org|(index|static)[.]crates[.]io|registry[.]npmjs|proxy[.]golang[.]org"
    rb"|index[-_]url|find[-_]links",
    re.IGNORECASE,
)


def _tracked_files() -> list[Path]:
    # The folder may belong to somebody else (a container, root in a clone); git refuses that unless told.
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip(f"not a git checkout: {listing.stderr.decode().strip()}")
    return [ROOT / name for name in listing.stdout.decode().split("\0") if name]


def test_no_file_names_a_package_registry() -> None:
    # Cargo.lock is as cargo writes it, with the source of every crate.
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in _tracked_files()
        if path.name != "Cargo.lock" and path.is_file() and (match := ADDRESS.search(path.read_bytes()))
    ]
    assert found == []
