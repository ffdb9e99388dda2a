"""`/api/schema`: the descriptions of its formats that a store keeps."""

from __future__ import annotations

import base64
from typing import Annotated

from litestar import get
from litestar.params import Parameter

from graviton.ports.schemas import Schema
from graviton.server.http.context import Context
from graviton.server.http.models import SchemaInfo, SchemaName, SchemaNames
from graviton.server.http.times import time_text

__all__ = ["ROUTES"]


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
