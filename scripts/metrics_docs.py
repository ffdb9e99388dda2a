"""What the documents about metrics say of each: written from the table in the code, so that it cannot be wrong.

    python scripts/metrics_docs.py      writes the table in docs/operations/metrics.md and the Grafana dashboard again

A test compares both with what this would write.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from graviton.ports.metric_keys import Across, MetricKeys, MetricKind  # noqa: E402 - found by the line above

PAGE = ROOT / "docs/operations/metrics.md"
DASHBOARD = ROOT / "docs/operations/grafana-dashboard.json"
BEGIN, END = "<!-- table: scripts/metrics_docs.py writes it -->", "<!-- end of the table -->"

_ACROSS = {Across.SUM: "sum", Across.MAX: "largest", Across.LATEST: "latest"}


def table() -> str:
    """All metrics as a table, in the order of the code."""
    lines = ["| metric | kind | what | labels |", "|---|---|---|---|"]
    for key in MetricKeys:
        spec = key.spec
        kind = spec.kind.value + (f", {_ACROSS[spec.across]}" if spec.kind is MetricKind.GAUGE else "")
        labels = "; ".join(f"`{name}`: {values}" for name, values in spec.labels.items())
        lines.append(f"| `{key.value}` | {kind} | {spec.help} | {labels} |")
    return "\n".join(lines)


def with_table(page: str) -> str:
    """The page with the table of today."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


class Panel(NamedTuple):
    """A graph: what it is called, its unit, and expressions with the names of their lines."""

    title: str
    unit: str
    lines: dict[str, str]
    """Legend (Grafana's, with `{{label}}`) to expression; `$` stands for which servers were chosen."""
    help: str = ""


def _rate(metric: str, by: str = "", where: str = "") -> str:
    found = f"rate({metric}{{{where + ',' if where else ''}$}}[$__rate_interval])"
    return f"sum by ({by}) ({found})" if by else f"sum({found})"


def _grown(metric: str, by: str = "") -> str:
    found = f"increase({metric}{{$}}[$__rate_interval])"
    return f"sum by ({by}) ({found})" if by else f"sum({found})"


def _quantile(q: float, metric: str, by: str = "", where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {_rate(metric + '_bucket', labels, where)})"


_BODIES = 'route!~"/api/events|unknown"'

ROWS: dict[str, list[Panel]] = {
    "Traffic": [
        Panel("Requests", "reqps", {"{{method}} {{route}}": _rate("graviton_http_requests_total", "method, route")}),
        Panel(
            "Bytes of bodies",
            "Bps",
            {
                "in": _rate("graviton_http_request_bytes_total"),
                "out": _rate("graviton_http_response_bytes_total"),
            },
        ),
        Panel(
            "At once",
            "short",
            {
                "{{kind}}": "sum by (kind) (graviton_http_in_flight{$})",
                "{{kind}} waiting": "sum by (kind) (graviton_http_waiting{$})",
                "event followers": "sum(graviton_http_event_followers{$})",
            },
            "Requests that run, wait for a slot, or follow the events.",
        ),
    ],
    "Latency": [
        Panel(
            "Requests",
            "s",
            {
                "p50": _quantile(0.5, "graviton_http_request_seconds", where=_BODIES),
                "p95": _quantile(0.95, "graviton_http_request_seconds", where=_BODIES),
                "p99": _quantile(0.99, "graviton_http_request_seconds", where=_BODIES),
            },
            "To the last byte, so large bodies and slow clients count.",
        ),
        Panel(
            "p99 of requests by route",
            "s",
            {"{{method}} {{route}}": _quantile(0.99, "graviton_http_request_seconds", "method, route", _BODIES)},
        ),
        Panel(
            "p99 of operations on the store",
            "s",
            {"{{operation}}": _quantile(0.99, "graviton_blob_operation_seconds", "operation")},
        ),
    ],
    "Errors": [
        Panel(
            "Answers that are errors",
            "reqps",
            {"{{status}} {{route}}": _rate("graviton_http_requests_total", "status, route", 'status=~"[45].."')},
        ),
        Panel(
            "Operations that failed",
            "ops",
            {
                "{{operation}} {{outcome}}": _rate(
                    "graviton_blob_operations_total", "operation, outcome", 'outcome!="ok"'
                )
            },
        ),
        Panel(
            "Damaged blocks, lost log lines",
            "short",
            {
                "blocks damaged": _grown("graviton_blocks_damaged_total"),
                "cache entries damaged": _grown("graviton_cache_damaged_total"),
                "log lines {{reason}}": _grown("graviton_log_lines_lost_total", "reason"),
            },
        ),
    ],
    "Storage": [
        Panel(
            "Bytes",
            "Bps",
            {"put": _rate("graviton_bytes_ingested_total"), "read": _rate("graviton_bytes_read_total")},
        ),
        Panel("Blocks put", "ops", {"{{status}}": _rate("graviton_blocks_ingested_total", "status")}),
        Panel(
            "Blocks that were there already",
            "percentunit",
            {
                "duplicate": _rate("graviton_blocks_ingested_total", where='status="duplicate"')
                + " / "
                + _rate("graviton_blocks_ingested_total")
            },
        ),
    ],
    "Resumable uploads": [
        Panel(
            "Uploads",
            "ops",
            {
                "{{event}}": _rate("graviton_uploads_total", "event"),
                "taken over": _rate("graviton_upload_takeovers_total"),
            },
        ),
        Panel("Unfinished", "short", {"open": "max(graviton_uploads_open{$})"}),
        Panel("Bytes taken", "Bps", {"bytes": _rate("graviton_upload_bytes_total")}),
    ],
    "Limits": [
        Panel(
            "Quota",
            "bytes",
            {"{{kind}}": "max by (kind) (graviton_quota_bytes{$})"},
        ),
        Panel("Quota in blobs", "short", {"{{kind}}": "max by (kind) (graviton_quota_blobs{$})"}),
        Panel(
            "Spill, and waiting for the configured rate",
            "bytes",
            {
                "spill {{kind}}": "sum by (kind) (graviton_spill_bytes{$})",
                "seconds throttled, {{direction}}": _rate("graviton_throttled_seconds_total", "direction"),
            },
        ),
    ],
    "Backends": [
        Panel(
            "Operations",
            "ops",
            {"{{backend}} {{operation}}": _rate("graviton_backend_operations_total", "backend, operation")},
        ),
        Panel(
            "p99",
            "s",
            {"{{backend}} {{operation}}": _quantile(0.99, "graviton_backend_operation_seconds", "backend, operation")},
        ),
        Panel(
            "Failures and retries",
            "ops",
            {
                "{{backend}} {{code}}": _rate("graviton_backend_failures_total", "backend, code"),
                "{{backend}} {{operation}} again": _rate("graviton_backend_retries_total", "backend, operation"),
            },
        ),
        Panel(
            "PostgreSQL: connections",
            "short",
            {"{{state}}": 'sum by (state) (graviton_backend_connections{backend="postgres",$})'},
        ),
        Panel(
            "Bucket: requests on their way",
            "short",
            {"{{backend}}": "sum by (backend) (graviton_backend_requests_in_flight{$})"},
        ),
        Panel(
            "Bucket: payload",
            "Bps",
            {"{{backend}} {{operation}}": _rate("graviton_backend_bytes_total", "backend, operation")},
        ),
    ],
    "Cache of blocks": [
        Panel(
            "Hit ratio",
            "percentunit",
            {
                "blocks": _rate("graviton_cache_reads_total", where='outcome="hit"')
                + " / "
                + _rate("graviton_cache_reads_total"),
                "bytes": _rate("graviton_cache_read_bytes_total", where='outcome="hit"')
                + " / "
                + _rate("graviton_cache_read_bytes_total"),
            },
        ),
        Panel(
            "Fills and evictions",
            "ops",
            {
                "fill {{outcome}}": _rate("graviton_cache_fills_total", "outcome"),
                "evicted from {{segment}}": _rate("graviton_cache_evictions_total", "segment"),
                "failed to {{operation}} ({{code}})": _rate("graviton_cache_failures_total", "operation, code"),
            },
        ),
        Panel("Size", "bytes", {"{{kind}}": "max by (kind) (graviton_cache_bytes{$})"}),
    ],
    "RocksDB": [
        Panel(
            "Bytes written",
            "Bps",
            {
                "log": _rate("graviton_rocksdb_log_bytes_total"),
                "flushed": _rate("graviton_rocksdb_flushed_bytes_total"),
                "compaction {{direction}}": _rate("graviton_rocksdb_compaction_bytes_total", "direction"),
            },
        ),
        Panel(
            "Compaction behind",
            "bytes",
            {
                "pending": "sum(graviton_rocksdb_pending_compaction_bytes{$})",
                "seconds stalled per second": _rate("graviton_rocksdb_stalled_seconds_total"),
            },
        ),
        Panel(
            "Memory and levels",
            "bytes",
            {
                "memtables": "sum(graviton_rocksdb_memtable_bytes{$})",
                "block cache {{kind}}": "sum by (kind) (graviton_rocksdb_block_cache_bytes{$})",
                "level {{level}}": "sum by (level) (graviton_rocksdb_level_bytes{$})",
            },
        ),
    ],
    "Process": [
        Panel(
            "Memory",
            "bytes",
            {
                "resident": "sum by (instance) (process_resident_memory_bytes{$})",
                "byte budget {{kind}}": "sum by (kind) (graviton_memory_budget_bytes{$})",
            },
        ),
        Panel("Waiting for", "short", {"{{queue}}": "sum by (queue) (graviton_queue_depth{$})"}),
        Panel("Processor", "short", {"cores": _rate("process_cpu_seconds_total", "instance")}),
        Panel(
            "Open files",
            "short",
            {
                "open": "sum by (instance) (process_open_fds{$})",
                "may be open": "sum by (instance) (process_max_fds{$})",
            },
        ),
    ],
}

_SERVERS = 'job=~"$job",instance=~"$instance"'
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        place = {"h": 1, "w": _WIDTH * _COLUMNS, "x": 0, "y": y}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place, "collapsed": False})
        panels[-1]["panels"] = []
        y += 1
        for number, panel in enumerate(row):
            x, down = number % _COLUMNS * _WIDTH, number // _COLUMNS * _HEIGHT
            panels.append(_graph(len(panels) + 1, panel, {"h": _HEIGHT, "w": _WIDTH, "x": x, "y": y + down}))
        y += -(-len(row) // _COLUMNS) * _HEIGHT
    return {
        "uid": "graviton",
        "title": "Graviton",
        "tags": ["graviton"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_datasource(), _choice("job", ""), _choice("instance", '{job=~"$job"}')]},
        "panels": panels,
    }


def _graph(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": _SOURCE,
            "expr": expression.replace("$}", _SERVERS + "}"),
            "legendFormat": legend,
        }
        for index, (legend, expression) in enumerate(panel.lines.items())
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}},
            "overrides": _overrides(panel),
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": targets,
    }


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    """Lines of seconds among bytes have an axis of their own."""
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"/^{legend.partition('{{')[0].rstrip(', ')}/"},
            "properties": [{"id": "unit", "value": "s"}, {"id": "custom.axisPlacement", "value": "right"}],
        }
        for legend in panel.lines
        if legend.startswith("seconds ")
    ]


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}


def _choice(label: str, among: str) -> dict[str, Any]:
    query = f"label_values(graviton_info{among}, {label})"
    return {
        "name": label,
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": label},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
        "hide": 0,
    }


def dashboard_text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def main() -> None:
    """Write both."""
    PAGE.write_text(with_table(PAGE.read_text()))
    DASHBOARD.write_text(dashboard_text())


if __name__ == "__main__":
    main()
