"""Reading environment variables one by one, naming the one whose value is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from graviton.errors import ConfigError, InvalidInput

__all__ = ["Reader"]

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
