"""Environment variables read one by one, naming the one whose value is wrong; paths and sizes, as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from graviton.errors import ConfigError, InvalidInput

__all__ = ["Reader", "parse_path", "parse_size"]

_T = TypeVar("_T")


class Reader:
    """Reads one variable at a time and names it when its value is wrong."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def value(self, name: str, parse: Callable[[str], _T], default: _T) -> _T:
        """The value of `name`; `default` if it is not set, or empty. Raises ConfigError naming it."""
        text = self._environment.get(name, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except InvalidInput as error:
            raise ConfigError(
                f"{name}: {error.message}", operation="configure", subject=name, hint=error.hint
            ) from error

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """The same, one of `choices`."""

        def check(text: str) -> str:
            if text not in choices:
                raise InvalidInput(f"{text[:80]!r} is not one of {', '.join(choices)}")
            return text

        return self.value(name, check, default)


def parse_path(text: str) -> Path:
    """A path, in which `~` stands for a home."""
    return Path(text).expanduser()


_SIZE = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB|K|M|G|T)?(?:/s)?", re.ASCII)
_UNITS = {"": 1, "B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_UNITS |= {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_UNITS |= {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}


def parse_size(text: str) -> int:
    """Bytes from `4096`, `64MiB`, `1G` (powers of 1024) or `10MB` (powers of 1000). Raises InvalidInput."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(f"{text[:40]!r} is not a size", hint="Write bytes, or a number with KiB, MiB, GiB, MB, GB.")
    return int(match[1]) * _UNITS[match[2] or ""]
