"""`/api/schema`: the descriptions of its formats that a store keeps."""

from __future__ import annotations

import base64
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import Parameter

from graviton.ports.schemas import Schema
from graviton.server.http.context import Context
from graviton.server.http.times import time_text

__all__ = ["ROUTES", "SchemaInfo", "SchemaNames"]


class SchemaName(msgspec.Struct):
    """A schema and its versions, ascending."""

    name: str
    versions: list[int]


class SchemaNames(msgspec.Struct):
    """All schemas, in the order of their names."""

    schemas: list[SchemaName]


class SchemaInfo(msgspec.Struct):
    """One version of a schema."""

    name: str
    version: int
    created: str
    text: str | None
    """Null if it is no UTF-8."""
    base64: str | None
    """Its bytes, if it is no UTF-8."""


@get("/api/schema")
async def schema_names(context: Context) -> SchemaNames:
    """Names and versions."""
    schemas = context.services.schemas
    return SchemaNames([SchemaName(name, await schemas.versions(name)) for name in await schemas.names()])


@get("/api/schema/{name:str}")
async def schema(
    context: Context, name: str, version: Annotated[int | None, Parameter(ge=1, le=2**31 - 1)] = None
) -> SchemaInfo:
    """A version of a schema, the newest unless another is asked for."""
    return _info(await context.services.schemas.get(name, version))


def _info(found: Schema) -> SchemaInfo:
    created = time_text(found.created_at_ns)
    try:
        return SchemaInfo(found.name, found.version, created, found.body.decode(), None)
    except UnicodeDecodeError:
        return SchemaInfo(found.name, found.version, created, None, base64.b64encode(found.body).decode())


ROUTES = [schema_names, schema]
