"""The OpenAPI document of the whole server."""

from __future__ import annotations

from functools import cache

import msgspec

from graviton._version import __version__
from graviton.server.http.errors import Problem
from graviton.server.http.models import (
    BlobInfo,
    BlobPage,
    BlockPage,
    Health,
    Presence,
    Ready,
    SchemaInfo,
    SchemaNames,
    Stats,
    WantedIds,
)
from graviton.server.http.openapi import blobs, others
from graviton.server.http.openapi.parts import Json, problem_components

__all__ = ["document"]

_MODELS = [
    BlobInfo,
    BlobPage,
    BlockPage,
    Health,
    Presence,
    Problem,
    Ready,
    SchemaInfo,
    SchemaNames,
    Stats,
    WantedIds,
]

_ABOUT = """Content-addressed storage: bytes in, deduplicated at content-defined boundaries, verified, out again.

Errors are `application/problem+json` (RFC 9457); `error` is a code that never changes, and `trace_id`, also in the
header `X-Trace-Id` of every answer, leads to the line of the server's log."""


@cache
def document() -> Json:
    """All routes, models and problems."""
    _, schemas = msgspec.json.schema_components(_MODELS, ref_template="#/components/schemas/{name}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Graviton", "version": __version__, "description": _ABOUT, "license": _LICENSE},
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "paths": {**blobs.PATHS, **others.PATHS},
        "components": {
            "schemas": schemas,
            "responses": problem_components(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "GRAVITON_API_TOKEN of the server, if it has one.",
                }
            },
        },
    }


_LICENSE: Json = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
