"""The document as a page to be read: no script, nothing from elsewhere, and no address of anybody's."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html import escape
from typing import Final

from graviton.server.http.openapi.parts import Json

__all__ = ["CONTENT_SECURITY_POLICY", "page"]

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#f3f4f6;padding:.7rem;overflow-x:auto;border-radius:6px}
h2{margin-top:3rem;border-bottom:2px solid #d0d7de}h3{margin-top:2.2rem}h3 b{color:#0b6bcb;margin-right:.5rem}
table{border-collapse:collapse;width:100%}td,th{border:1px solid #d0d7de;padding:.3rem .6rem;text-align:left;
vertical-align:top}nav li{list-style:none}nav ul{padding-left:0}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}pre{background:#161b22}h3 b{color:#6cb6ff}
a{color:#6cb6ff}td,th,h2{border-color:#30363d}}
"""

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Goes with the page."""

_METHODS: Final = ("get", "head", "post", "put", "patch", "delete", "options")
_CODE = re.compile(r"`([^`]*)`")


def page(document: Json) -> str:
    """The whole page."""
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    operations = list(_operations(document))
    tags = dict.fromkeys(one["tags"][0] for _, _, one, _ in operations)
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>{_text(document['info']['description'])}",
        "<p>The same for programs: <a href=/api/openapi.json>openapi.json</a></p><nav><ul>",
    ]
    for path, method, one, _ in operations:
        name = escape(one["operationId"])
        parts.append(f"<li><a href='#{name}'><code>{method.upper()} {escape(path)}</code></a> {_line(one['summary'])}")
    parts.append("</ul></nav>")
    for tag in tags:
        parts.append(f"<h2>{escape(tag)}</h2>")
        for path, method, one, shared in operations:
            if one["tags"][0] == tag:
                parts += _operation(document, path, method, one, shared)
    parts.append("<h2>models</h2>")
    for name, schema in document["components"]["schemas"].items():
        shown = escape(json.dumps(schema, indent=2))
        parts.append(f"<h3 id='model-{escape(name)}'>{escape(name)}</h3><pre>{shown}</pre>")
    return "\n".join([*parts, "</body></html>"])


def _operations(document: Json) -> Iterator[tuple[str, str, Json, list[Json]]]:
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method], item.get("parameters", [])


def _operation(document: Json, path: str, method: str, one: Json, shared: list[Json]) -> Iterator[str]:
    yield f"<h3 id='{escape(one['operationId'])}'><b>{method.upper()}</b><code>{escape(path)}</code></h3>"
    yield f"<p><strong>{_line(one['summary'])}</strong></p>{_text(one['description'])}"
    for sample in one.get("x-codeSamples", ()):
        yield f"<pre>{escape(sample['source'])}</pre>"
    parameters = [*shared, *one.get("parameters", ())]
    if parameters:
        yield "<table><tr><th>parameter<th>where<th>type<th>what"
        for parameter in parameters:
            schema = parameter["schema"]
            kind = schema.get("format") or schema.get("type", "")
            told = _line(parameter.get("description", ""))
            yield f"<tr><td><code>{escape(parameter['name'])}</code><td>{parameter['in']}<td>{escape(kind)}<td>{told}"
        yield "</table>"
    yield "<table><tr><th>answer<th>what<th>body"
    for status, told in one["responses"].items():
        found = _resolved(document, told)
        yield f"<tr><td>{status}<td>{_line(found['description'])}<td>{', '.join(_bodies(found))}"
    yield "</table>"


def _resolved(document: Json, told: Json) -> Json:
    """An answer, which may be one of the shared ones."""
    if "$ref" not in told:
        return told
    found: Json = document["components"]["responses"][told["$ref"].rpartition("/")[2]]
    return found


def _bodies(told: Json) -> Iterator[str]:
    for media, content in told.get("content", {}).items():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        model = f" <a href='#model-{escape(name)}'>{escape(name)}</a>" if name else ""
        yield f"<code>{escape(media)}</code>{model}"


def _line(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))


def _text(text: str) -> str:
    return "".join(f"<p>{_line(part)}</p>" for part in text.split("\n\n"))
