"""The table of metrics is whole, and the code that reports goes by it, also where no test comes along."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from graviton.ports.metric_keys import Across, MetricKeys, MetricKind

SOURCE = Path(__file__).parents[3] / "src" / "graviton"


@pytest.mark.parametrize("key", MetricKeys, ids=lambda key: key.name)
def test_spec_is_whole(key: MetricKeys) -> None:
    spec = key.spec
    assert re.fullmatch(r"graviton_[a-z0-9_]+", key.value)
    assert key.value.endswith("_total") == (spec.kind is MetricKind.COUNTER)
    assert len(spec.help) <= 120, "it is repeated for each series in the files of workers"
    assert spec.help.endswith(".") or key is MetricKeys.INFO
    assert all(re.fullmatch(r"[a-z_][a-z0-9_]*", label) and values for label, values in spec.labels.items())
    assert not spec.labels.keys() & {"le", "quantile", "pid"}, "taken by prometheus-client"
    assert bool(spec.buckets) == (spec.kind is MetricKind.HISTOGRAM)
    assert list(spec.buckets) == sorted(set(spec.buckets))
    if spec.kind is MetricKind.HISTOGRAM:
        assert key.value.endswith("_seconds"), "the buckets are seconds"
        assert 60 in spec.buckets
    if spec.kind is not MetricKind.GAUGE:
        assert spec.across is Across.SUM


def test_members_are_their_names() -> None:
    assert MetricKeys.INFO == "graviton_info"
    assert {MetricKeys.INFO: 1}["graviton_info"] == 1  # type: ignore[index]
    assert len({key.value for key in MetricKeys}) == len(MetricKeys)


def _reports(module: Path) -> Iterator[tuple[int, str | None, MetricKeys, set[str]]]:
    """Calls whose first argument is a member: line, kind if the call says so, the member, names of labels."""
    for node in ast.walk(ast.parse(module.read_bytes())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        first = node.args[0]
        if not (isinstance(first, ast.Attribute) and isinstance(first.value, ast.Name)):
            continue
        if first.value.id != "MetricKeys" or any(word.arg is None for word in node.keywords):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        kind = called if called in {kind.value for kind in MetricKind} else None
        labels = {word.arg for word in node.keywords if word.arg is not None} - {"amount", "value"}
        yield node.lineno, kind, MetricKeys[first.attr], labels


def test_code_reports_each_metric_as_its_kind_and_with_its_labels() -> None:
    seen = 0
    for module in SOURCE.rglob("*.py"):
        if module.is_relative_to(SOURCE / "testing"):
            continue
        for line, kind, key, labels in _reports(module):
            seen += 1
            where = f"{module.relative_to(SOURCE)}:{line}: {key.name}"
            assert kind in (None, key.spec.kind.value), where
            assert labels == set(key.spec.labels), where
    assert seen > 25, "the walk finds the calls"


def test_every_metric_is_reported_by_somebody() -> None:
    text = "".join(
        module.read_text()
        for module in SOURCE.rglob("*.py")
        if module.name != "metric_keys.py" and not module.is_relative_to(SOURCE / "testing")
    )
    silent = {key.name for key in MetricKeys if f"MetricKeys.{key.name}" not in text}
    assert silent == set()
