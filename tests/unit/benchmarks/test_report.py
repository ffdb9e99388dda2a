"""Results as files."""

import json

from benchmarks.harness.figures import Verdict
from benchmarks.harness.report import terminal_table, write
from benchmarks.harness.section import Section, Table


def _section():
    table = Table(["tool", "wall"])
    table.add("graviton|cp", "1.00 s")
    verdict = Verdict.of("put", [0.4, 0.2, 0.3], "x", 0.3, goal=0.2)
    return Section("large_file", "A file", [verdict], [table], ["a note"], {"put": [0.4, 0.2, 0.3]})


def test_json_holds_every_run_and_the_outcome(tmp_path):
    write(tmp_path / "new", {"cpu": "some"}, [_section()], quick=True)
    found = json.loads((tmp_path / "new" / "results.json").read_text())
    assert found["quick"] is True
    assert found["machine"] == {"cpu": "some"}
    (section,) = found["sections"]
    assert section["runs"] == {"put": [0.4, 0.2, 0.3]}
    assert section["verdicts"][0]["outcome"] == "met"


def test_markdown_says_when_a_run_was_quick_and_keeps_cells_apart(tmp_path):
    write(tmp_path, {"cpu": "some"}, [_section()], quick=True)
    text = (tmp_path / "results.md").read_text()
    assert "It settles nothing" in text
    assert "| put | 0.30 x (0.20 x .. 0.40 x) | ≤ 0.30 x | ≤ 0.20 x | met |  |" in text
    assert "graviton\\|cp" in text


def test_terminal_tables_are_aligned():
    lines = terminal_table(_section()).splitlines()
    assert lines[0].index("wall") == lines[1].index("1.00 s")
