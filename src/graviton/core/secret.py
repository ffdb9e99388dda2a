"""`Secret`: text that no log, error or traceback shows by accident."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

__all__ = ["Secret", "secrets_in"]


class Secret:
    """A password or token. `repr`, `str` and formatting show asterisks; only `reveal` gives the text away."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: for the call that needs it, never for a message."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a secret is not pickled: it would lie there as plain text")


def secrets_in(settings: object) -> Iterator[Secret]:
    """All secrets in settings: tuples (with names or without), data classes and mappings, however deep."""
    if isinstance(settings, Secret):
        yield settings
        return
    parts: list[object] = []
    if isinstance(settings, (tuple, list)):
        parts = list(settings)
    elif isinstance(settings, Mapping):
        parts = list(settings.values())
    elif is_dataclass(settings):
        parts = [getattr(settings, field.name) for field in fields(settings)]
    for part in parts:
        yield from secrets_in(part)
