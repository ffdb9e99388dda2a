"""The server's log: set up once per process, and the line of each request. Fields: docs/operations/logs.md.

Everything goes through the standard library's `logging`, so what libraries say lands in the same lines. `about` gives
lines the fields of the request they belong to.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping

from graviton.assembly.log_settings import LogSettings
from graviton.core.clock import Clock, SystemClock
from graviton.core.secret import Secret
from graviton.ports.metrics import MetricKeys, MetricsRegistry, NoMetrics
from graviton.server.log_lines import JsonLines, Lines, TextLines, about, told
from graviton.server.log_redaction import Redactor
from graviton.server.log_target import LogTarget

__all__ = ["Logs", "about", "access_log", "told"]

_ROOT = "graviton"
_ACCESS = logging.getLogger("graviton.access")
_LOG = logging.getLogger("graviton.log")

_OFTEN = ("/api/health", "/metrics")
"""Routes that machines ask every few seconds; that it went well is worth a line for whoever searches an error only."""

_STDERR = 2


class Logs:
    """The log of this process, from now until `close`: what it prints, in which form.

    Takes the place of whatever handlers the root logger has, and gives them back. Others than `graviton.*` are heard
    from `warning` on, whatever the level: at lower levels some of them tell headers.
    """

    def __init__(
        self,
        settings: LogSettings = LogSettings(),
        *,
        clock: Clock | None = None,
        metrics: MetricsRegistry | None = None,
        secrets: Iterable[Secret] = (),
        descriptor: int = _STDERR,
    ) -> None:
        """`secrets` are those this process knows: no line shows them. Raises Unavailable if there is no thread."""
        is_json = settings.format == "json" or (not settings.format and not os.isatty(descriptor))
        self._lines: Lines = (JsonLines if is_json else TextLines)(clock or SystemClock(), Redactor(secrets))
        self._metrics = metrics or NoMetrics()
        self._target = LogTarget(descriptor, self._lost, self._notice)
        root, ours = logging.getLogger(), logging.getLogger(_ROOT)
        self._before = root.handlers[:], root.level, ours.level
        self._handler = _Handler(self._target, self._lines, self._lost)
        root.handlers[:] = [self._handler]
        root.setLevel(logging.WARNING)
        ours.setLevel(settings.level.upper())
        logging.captureWarnings(True)

    def close(self) -> None:
        """Write what waits, as far as that goes, and leave `logging` as it was. Idempotent."""
        root, ours = logging.getLogger(), logging.getLogger(_ROOT)
        if self._handler in root.handlers:
            logging.captureWarnings(False)
            root.handlers[:], level, our_level = self._before
            root.setLevel(level)
            ours.setLevel(our_level)
        self._target.close()

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _lost(self, reason: str, count: int) -> None:
        self._metrics.counter(MetricKeys.LOG_LINES_LOST, count, reason=reason)

    def _notice(self, count: int) -> bytes:
        record = _LOG.makeRecord(_LOG.name, logging.WARNING, "", 0, "%d lines of the log were lost", (count,), None)
        return _encoded(self._lines.format(record))


class _Handler(logging.Handler):
    def __init__(self, target: LogTarget, lines: Lines, lost: Callable[[str, int], None]) -> None:
        super().__init__()
        self.setFormatter(lines)
        self._target, self._lost = target, lost

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = _encoded(self.format(record))
        except Exception:  # noqa: BLE001 - a line that cannot be made is lost; whoever logs goes on
            self._lost("failed", 1)
            return
        self._target.put(line)


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


def access_log(line: Mapping[str, object], failure: BaseException | None = None) -> None:
    """The line of a request that ended.

    `line` has `method`, `route`, `path`, `status`, `seconds`, `received` and `sent` (bytes of the bodies), ids and
    `client` where they are known; of an error also `error` (its code), `message`, `subject`, `hint`. `failure` is what
    nobody expected: its traceback is logged.

    Level: `error` for that and for 500, `warning` for other 5xx, `debug` for health and metrics that went well, else
    `info`.
    """
    status = line.get("status")
    level = _level(status if isinstance(status, int) else 0, str(line.get("route", "")), failure)
    if not _ACCESS.isEnabledFor(level):
        return
    fields = {_RENAMED.get(name, name): value for name, value in line.items()}
    # Made by hand: `log` would look for the place of the call, which costs as much as all the rest.
    message, arguments = "%s %s %s", (line.get("method"), line.get("route"), status)
    trouble = None if failure is None else (type(failure), failure, failure.__traceback__)
    _ACCESS.handle(_ACCESS.makeRecord(_ACCESS.name, level, "", 0, message, arguments, trouble, extra=told(**fields)))


_RENAMED = {"received": "bytes_in", "sent": "bytes_out", "message": "reason"}


def _level(status: int, route: str, failure: BaseException | None) -> int:
    if failure is not None or status == 500:
        return logging.ERROR
    if status > 500:
        return logging.WARNING
    return logging.DEBUG if status < 400 and route.startswith(_OFTEN) else logging.INFO
