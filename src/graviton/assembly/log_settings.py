"""What the server's log looks like and how much it tells: GRAVITON_LOG_FORMAT and GRAVITON_LOG_LEVEL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from graviton.assembly.environment import Reader

__all__ = ["LogSettings", "log_settings_from"]

_FORMATS = ("json", "text")
_LEVELS = ("debug", "info", "warning", "error")


class LogSettings(NamedTuple):
    """How to log."""

    format: str = ""
    """`json` or `text`; empty: text on a terminal, else json."""
    level: str = "info"


def log_settings_from(environment: Mapping[str, str]) -> LogSettings:
    """Settings from environment variables. Raises ConfigError naming the variable that is wrong."""
    get = Reader(environment)
    return LogSettings(
        get.choice("GRAVITON_LOG_FORMAT", _FORMATS, LogSettings().format),
        get.choice("GRAVITON_LOG_LEVEL", _LEVELS, LogSettings().level),
    )
