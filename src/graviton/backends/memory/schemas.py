"""`InMemorySchemaStore`: the reference for `SchemaStore`."""

from __future__ import annotations

from graviton.core.clock import Clock, SystemClock
from graviton.errors import NotFound
from graviton.ports.schemas import Schema, SchemaStore, check_schema_body, check_schema_name

__all__ = ["InMemorySchemaStore"]


class InMemorySchemaStore(SchemaStore):
    """Schemas of this process, gone with the object; for the tasks of one event loop."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._schemas: dict[str, list[Schema]] = {}

    async def put(self, name: str, body: bytes) -> Schema:
        check_schema_name(name)
        check_schema_body(name, body)
        versions = self._schemas.setdefault(name, [])
        if not versions or versions[-1].body != body:
            versions.append(Schema(name, len(versions) + 1, bytes(body), self._clock.now_ns()))
        return versions[-1]

    async def get(self, name: str, version: int | None = None) -> Schema:
        check_schema_name(name)
        versions = self._schemas.get(name, [])
        wanted = len(versions) if version is None else version
        if not 1 <= wanted <= len(versions):
            what = name if version is None else f"{name} version {version}"
            raise NotFound(f"there is no schema {what}", operation="schemas.get", subject=name)
        return versions[wanted - 1]

    async def versions(self, name: str) -> list[int]:
        check_schema_name(name)
        return [schema.version for schema in self._schemas.get(name, [])]

    async def names(self) -> list[str]:
        return sorted(self._schemas)
