"""What the documents say of metrics is what the code has: the table, the dashboard, the alert rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from graviton.ports.metric_keys import MetricKeys, MetricKind
from scripts import metrics_docs

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "docs/operations/alerts.yml"

TARGET = {"instance", "job"}
"""Labels that Prometheus adds."""

DESCRIBED = ("code of", "status of", "template", "as the backend calls it")
"""Parts of descriptions that do not list all values of a label."""


def _series() -> dict[str, tuple[set[str], MetricKeys | None]]:
    """Every name that may stand in an expression: its labels, and the metric it belongs to."""
    found: dict[str, tuple[set[str], MetricKeys | None]] = {"up": (set(TARGET), None)}
    for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds", "max_fds", "virtual_memory_bytes"):
        found[f"process_{name}"] = (TARGET | {"worker"}, None)
    for key in MetricKeys:
        labels = TARGET | set(key.spec.labels)
        if key.spec.kind is MetricKind.HISTOGRAM:
            found |= {f"{key.value}{end}": (labels, key) for end in ("_count", "_sum")}
            found[f"{key.value}_bucket"] = (labels | {"le"}, key)
        else:
            found[key.value] = (labels, key)
    return found


SERIES = _series()
FUNCTIONS = {"histogram_quantile", "increase", "ignoring", "label_values", "max", "or", "rate", "sum", "by", "without"}
_MATCHER = re.compile(r'\s*([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*')
_NUMBER = re.compile(r"[0-9.]+")


def problems(expression: str) -> Iterator[str]:
    """What is wrong with an expression of PromQL, as far as names and labels go."""
    labels_here = {"le"}
    for name, matchers in re.findall(r'\b([a-z_]+)\s*\{((?:[^}"]|"[^"]*")*)\}', expression):
        if name not in SERIES:
            yield f"there is no metric {name}"
            continue
        labels, key = SERIES[name]
        labels_here |= labels
        for matcher in re.findall(r'(?:[^,"]|"[^"]*")+', matchers):
            found = _MATCHER.fullmatch(matcher)
            if found is None:
                yield f"{matcher!r} is no matcher"
            elif found[1] not in labels:
                yield f"{name} has no label {found[1]}"
            elif key is not None and found[1] in key.spec.labels and found[2] in ("=", "!="):
                values = key.spec.labels[found[1]]
                if found[3] not in re.findall(r"\w+", values) and not any(part in values for part in DESCRIBED):
                    yield f"{name}: {found[1]} is never {found[3]!r}"
    bare = re.sub(r'\{(?:[^}"]|"[^"]*")*\}|\[[^\]]*\]|"[^"]*"', " ", expression)
    for clause, names in re.findall(r"\b(by|without|ignoring|on)\s*\(([^)]*)\)", bare):
        for label in filter(None, re.split(r"[\s,]+", names)):
            labels_here |= {one for name in re.findall(r"[a-z_]+", bare) for one in SERIES.get(name, ((), None))[0]}
            if label not in labels_here:
                yield f"{clause}: nothing here has a label {label}"
    bare = re.sub(r"\b(by|without|ignoring|on)\s*\([^)]*\)", " ", bare)
    for word in re.findall(r"[a-z_][a-z0-9_]*", re.sub(r"\d+[smhd]\b|\b\d\S*", " ", bare)):
        if word not in SERIES and word not in FUNCTIONS:
            yield f"{word} is neither a metric nor a function used here"
    if expression.count("(") != expression.count(")"):
        yield "parentheses do not match"


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("rate(graviton_made_up_total[5m])", "graviton_made_up_total is neither"),
        ('rate(graviton_made_up_total{a="b"}[5m])', "no metric graviton_made_up_total"),
        ('graviton_blocks_ingested_total{state="fresh"}', "no label state"),
        ('graviton_blocks_ingested_total{status="new"}', "never 'new'"),
        ("sum by (color) (graviton_blocks_ingested_total)", "nothing here has a label color"),
        ("rate(graviton_http_request_seconds[5m])", "neither"),
        ("sum(graviton_info", "parentheses"),
    ],
)
def test_the_check_finds_what_is_wrong(expression: str, problem: str) -> None:
    assert any(problem in found for found in problems(expression))


def test_table_is_the_one_of_the_code() -> None:
    page = metrics_docs.PAGE.read_text()
    assert page == metrics_docs.with_table(page), "run scripts/metrics_docs.py"
    assert page.count("\n| `graviton_") == len(MetricKeys)


def test_names_in_the_text_exist() -> None:
    page = metrics_docs.PAGE.read_text() + (ROOT / "docs/operations/logs.md").read_text()
    for name, labels in re.findall(r"`(graviton_[a-z_]+[a-z])(\{[^}]*\})?`", page):
        assert name in SERIES or name in {key.value for key in MetricKeys}, name
        assert not labels or "|" in labels or list(problems(name + labels)) == []


def _panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(metrics_docs.DASHBOARD.read_text())["panels"]
    return found


def test_dashboard_is_the_one_of_the_script() -> None:
    assert metrics_docs.DASHBOARD.read_text() == metrics_docs.dashboard_text(), "run scripts/metrics_docs.py"


def test_dashboard_can_be_imported() -> None:
    board = json.loads(metrics_docs.DASHBOARD.read_text())
    assert board["uid"] == "graviton"
    assert board["schemaVersion"] >= 36
    assert "id" not in board, "Grafana gives it"
    assert [one["name"] for one in board["templating"]["list"]] == ["datasource", "job", "instance"]
    panels = _panels()
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    wanted = {"Traffic", "Latency", "Errors", "Storage", "Limits", "Backends", "Cache of blocks", "RocksDB", "Process"}
    assert wanted <= set(rows)


def test_dashboard_asks_for_what_there_is() -> None:
    for panel in _panels():
        for target in panel.get("targets", ()):
            expression = target["expr"]
            assert list(problems(expression)) == [], (panel["title"], expression)
            used = re.findall(r"\b(?:graviton|process)_[a-z_]+", expression)
            assert expression.count('instance=~"$instance"') == len(used), "each choice of servers counts"
            labels = {label for name in used for label in SERIES[name][0]}
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert legend <= labels
            assert all(re.search(rf"by \([^)]*\b{label}\b", expression) for label in legend), expression
    for one in json.loads(metrics_docs.DASHBOARD.read_text())["templating"]["list"][1:]:
        assert re.fullmatch(r"label_values\(graviton_info(\{job=~\"\$job\"\})?, (job|instance)\)", one["definition"])


def _rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    return found


def test_alerts_are_rules() -> None:
    rules = _rules()
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 10
    for rule in rules:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: rule["alert"])
def test_alerts_ask_for_what_there_is(rule: dict[str, Any]) -> None:
    assert list(problems(rule["expr"])) == []
    kept = re.findall(r"\b(?:by) \(([^)]*)\)", rule["expr"])
    for label in re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])):
        names = re.findall(r"\b[a-z_]+\b", rule["expr"])
        assert any(label in SERIES[name][0] for name in names if name in SERIES)
        assert all(label in re.split(r"[\s,]+", by) for by in kept), f"{label} is summed away"
