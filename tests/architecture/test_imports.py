from __future__ import annotations

import ast
from pathlib import Path

import pytest
from importlinter import cli

ROOT = Path(__file__).parents[2]


def test_import_contracts_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_configure_logging", lambda verbose: None)  # it silences every logger of this process
    assert cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True) == 0


def _imported_at_start(module: Path) -> set[str]:
    """Modules that are imported when `module` is: everything outside functions, `if TYPE_CHECKING` included."""
    names: set[str] = set()
    open_nodes: list[ast.AST] = [ast.parse(module.read_bytes())]
    while open_nodes:
        for node in ast.iter_child_nodes(open_nodes.pop()):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                open_nodes.append(node)
    return names


def test_shipped_code_imports_testing_on_use_only() -> None:
    package = ROOT / "src" / "graviton"
    eager = [
        str(module.relative_to(ROOT))
        for module in package.rglob("*.py")
        if not module.is_relative_to(package / "testing")
        and any((name + ".").startswith("graviton.testing.") for name in _imported_at_start(module))
    ]
    assert eager == [], "every start of the program would pay for pytest and hypothesis, or fail without them"
