"""`SchemaStore`: named, versioned descriptions of the formats a store holds.

Laws:
- `put(name, schema)` appends the next version (1, 2, …) and returns it; putting what is the newest version already
  returns that version. Versions are never changed or removed: old ones stay readable for ever.
- `get(name)` is the newest version, `get(name, version)` that one; NotFound otherwise.
- Concurrent puts of different schemas get different versions.
- A name is `[a-z][a-z0-9._-]{0,63}`; a schema is 1 byte to 64 KiB. Anything else raises InvalidInput.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import NamedTuple

from graviton.errors import InvalidInput

__all__ = ["MAX_SCHEMA_BYTES", "Schema", "SchemaStore", "check_schema_body", "check_schema_name"]

_NAME = re.compile(r"[a-z][a-z0-9._-]{0,63}", re.ASCII)

MAX_SCHEMA_BYTES = 64 * 1024
"""A description of a format is a page of text, not data."""


class Schema(NamedTuple):
    """One version of a named schema."""

    name: str
    version: int
    body: bytes
    created_at_ns: int
    """UTC nanoseconds."""


class SchemaStore(ABC):
    """Versioned schemas; see the module docstring for the laws."""

    @abstractmethod
    async def put(self, name: str, body: bytes) -> Schema:
        """Append a version, durably. Raises InvalidInput."""

    @abstractmethod
    async def get(self, name: str, version: int | None = None) -> Schema:
        """A version, the newest by default. Raises NotFound."""

    @abstractmethod
    async def versions(self, name: str) -> list[int]:
        """The versions of `name`, ascending; empty for an unknown one."""

    @abstractmethod
    async def names(self) -> list[str]:
        """All names, sorted."""


def check_schema_name(name: str) -> None:
    """Raise InvalidInput unless `name` is a legal name; shared, so that all stores refuse the same."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"a schema name is a small letter and up to 63 of a-z 0-9 . _ -, not {name[:80]!r}", subject=name[:80]
        )


def check_schema_body(name: str, body: bytes) -> None:
    """Raise InvalidInput unless `body` has a legal length."""
    if not 1 <= len(body) <= MAX_SCHEMA_BYTES:
        raise InvalidInput(f"a schema has 1 to {MAX_SCHEMA_BYTES} bytes, not {len(body)}", subject=name)
