"""Logging into a pipe or file, and reading what came."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graviton.assembly.log_settings import LogSettings
from graviton.backends.memory.metrics import InMemoryMetrics
from graviton.ports.metrics import MetricKeys
from graviton.server.logs import Logs
from graviton.testing.fake_clock import FakeClock


class Lines:
    """What was logged, readable when the log was closed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def text(self) -> str:
        return self._path.read_text()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._path.read_bytes().split(b"\n") if line]


@contextmanager
def logging_to(path: Path, format: str = "json", level: str = "info", **more: Any) -> Iterator[Lines]:
    """Log into that file; it is whole when this is left."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        clock = FakeClock(1_769_862_896_123_456_789)
        with Logs(LogSettings(format, level), clock=clock, descriptor=descriptor, **more):
            yield Lines(path)
    finally:
        os.close(descriptor)


def lost(metrics: InMemoryMetrics) -> dict[str, float]:
    """Lines that were lost, by reason."""
    return {
        dict(series.labels)["reason"]: value
        for series, value in metrics.snapshot().counters.items()
        if series.name == MetricKeys.LOG_LINES_LOST
    }
