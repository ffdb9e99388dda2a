from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "src" / "graviton").rglob("*.py"))

MAX_LINES = 400
"""Past 300 lines one asks whether a module holds two concerns; past this the answer must be written into it."""

REASON = re.compile(r"^# Long on purpose: \S", re.MULTILINE)


def test_long_modules_give_a_reason() -> None:
    too_long = {
        str(module.relative_to(ROOT)): lines
        for module in MODULES
        if (lines := len((text := module.read_text()).splitlines())) > MAX_LINES and not REASON.search(text)
    }
    assert too_long == {}, "split by responsibility, or say why not: `# Long on purpose: <reason>`"


def test_every_module_says_what_it_is_for() -> None:
    silent = [module for module in MODULES if not ast.get_docstring(ast.parse(module.read_bytes()))]
    assert silent == []


def test_every_folder_of_the_package_is_a_package() -> None:
    folders = {module.parent for module in MODULES}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []
