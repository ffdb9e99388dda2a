"""Every Python example in README and guides runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
EXAMPLES = [
    pytest.param(code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, code in enumerate(_BLOCK.findall(page.read_text()), 1)
]


def test_the_readme_shows_the_library() -> None:
    [code] = _BLOCK.findall((ROOT / "README.md").read_text())
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 12


_FALLBACK = ("-W", "ignore:the native kernel is not installed") if os.environ.get("GRAVITON_KERNEL") == "python" else ()
"""Examples open stores of default settings, which say so where there is no native kernel."""


@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_run(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", *_FALLBACK, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_is_short_and_its_links_exist() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 150
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / target).exists(), target
