"""Pieces that descriptions of routes are put together from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from graviton.core.limits import MAX_DOMAIN_BYTES
from graviton.server.http.errors import KINDS
from graviton.server.http.models import ID_PATTERN

__all__ = [
    "BLOB_ID",
    "DOMAIN",
    "EXAMPLE_ID",
    "HOLDER",
    "Json",
    "answer",
    "binary",
    "head",
    "json_answer",
    "operation",
    "problems",
    "query",
    "reference",
]

Json: TypeAlias = dict[str, Any]

EXAMPLE_ID: Final = "blake3:ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f:5"
"""The five bytes `hello`."""

BLOB_ID: Final[Json] = {
    "name": "blob_id",
    "in": "path",
    "required": True,
    "description": "The id of a blob: `<algorithm>:<hex digest>:<size>`.",
    "schema": {"type": "string", "pattern": ID_PATTERN, "examples": [EXAMPLE_ID]},
}

_EVERYWHERE: Final = (400, 401, 403, 429, 500, 503)
"""What the edge, or any store, may answer whatever was asked."""

_TITLES: Final = {kind.status: kind.title for kind in reversed(KINDS.values())}


def reference(model: type) -> Json:
    """A schema of `components`."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def query(name: str, schema: Json, description: str) -> Json:
    """A parameter in the query that may be left out."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def head(name: str, description: str, schema: Json | None = None) -> Json:
    """A header of a request that may be left out."""
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": schema or {"type": "string"},
    }


_NAME: Final[Json] = {"type": "string", "pattern": f"^[!-~]{{0,{MAX_DOMAIN_BYTES}}}$", "default": ""}
"""Other text may be a name too, but for control characters; its length is that in UTF-8."""

DOMAIN: Final[Json] = query(
    "domain",
    _NAME,
    "The domain; nothing is shared between two.",
)
HOLDER: Final[Json] = query(
    "holder",
    _NAME,
    "Who keeps the blob: it is gone with its last holder.",
)


def answer(description: str, *, content: Json | None = None, headers: Mapping[str, str] | None = None) -> Json:
    """An answer; `headers` are names and what they say."""
    told: Json = {"description": description}
    if content is not None:
        told["content"] = content
    if headers:
        told["headers"] = {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}
    return told


def json_answer(
    description: str, model: type, example: object = None, headers: Mapping[str, str] | None = None
) -> Json:
    """An answer that is JSON."""
    content: Json = {"schema": reference(model)}
    if example is not None:
        content["example"] = example
    return answer(description, content={"application/json": content}, headers=headers)


def binary(*types: str) -> Json:
    """A body of bytes."""
    return {one: {"schema": {"type": "string", "format": "binary"}} for one in types}


def problems(*statuses: int) -> Json:
    """Answers to failed requests, those that come everywhere included."""
    return {
        str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in sorted({*statuses, *_EVERYWHERE})
    }


def problem_components() -> Json:
    """What `problems` refers to: one answer for each status."""
    return {
        f"Problem{status}": answer(
            title,
            content={"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            headers={"Retry-After": "Seconds after which trying again makes sense."} if status in (429, 503) else None,
        )
        for status, title in sorted(_TITLES.items())
        if status != 499  # never sent
    }


def operation(
    name: str,
    tag: str,
    summary: str,
    description: str,
    answers: Mapping[int, Json],
    *,
    curl: str,
    fails: Sequence[int] = (),
    parameters: Sequence[Json] = (),
    body: Json | None = None,
    is_open: bool = False,
) -> Json:
    """One method of a path. `curl` is an example, with $URL for the server; `is_open`: no token is asked for."""
    told: Json = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "description": description,
        "responses": {**{str(status): one for status, one in answers.items()}, **_without(problems(*fails), answers)},
        "x-codeSamples": [{"lang": "curl", "source": curl}],
    }
    if parameters:
        told["parameters"] = list(parameters)
    if body is not None:
        told["requestBody"] = body
    if is_open:
        told["security"] = [{}]
    return told


def _without(failures: Json, answers: Mapping[int, Json]) -> Json:
    return {status: one for status, one in failures.items() if int(status) not in answers}
