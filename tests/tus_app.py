"""Resumable uploads by tus 1.0, as little as a client can be tested with, in front of a server that has none yet.

Bytes are appended to a file per upload, and a request that breaks off leaves what came. The last byte makes a blob of
the file.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from graviton.core.clock import SystemClock
from graviton.server.http.plans import plan_of
from graviton.server.http.routes.blobs import put_headers

__all__ = ["TusApp"]

VERSION = {"tus-resumable": "1.0.0"}


class TusApp:
    """An ASGI application: uploads here, all else behind."""

    def __init__(self, behind: Any, store: Any, folder: Path) -> None:
        self._behind, self._store, self._folder = behind, store, folder
        self._done: dict[str, dict[str, str]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not scope["path"].startswith("/api/uploads"):
            await self._behind(scope, receive, send)
            return
        fields = {name.decode(): value.decode() for name, value in scope["headers"]}
        upload = scope["path"].removeprefix("/api/uploads").strip("/")
        status, headers = await self._answer(scope, receive, fields, upload)
        head = [(name.encode(), value.encode()) for name, value in {**VERSION, **headers}.items()]
        await send({"type": "http.response.start", "status": status, "headers": [*head, (b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def _answer(
        self, scope: Any, receive: Any, fields: dict[str, str], upload: str
    ) -> tuple[int, dict[str, str]]:
        method = scope["method"]
        if method == "OPTIONS":
            return 204, {"tus-version": "1.0.0", "tus-extension": "creation,termination", "tus-max-size": str(2**40)}
        if method == "POST" and not upload:
            return 201, self._create(scope, fields)
        note, data = self._folder / f"{upload}.json", self._folder / f"{upload}.part"
        if not note.exists():
            return 404, {}
        length = json.loads(note.read_text())["length"]
        if method == "DELETE":
            note.unlink()
            data.unlink()
            return 204, {}
        if method == "PATCH":
            if int(fields["upload-offset"]) != data.stat().st_size:
                return 409, {}
            await _append(receive, data)
            if data.stat().st_size == length and upload not in self._done:
                asked = {"headers": [(n.encode(), v.encode()) for n, v in json.loads(note.read_text())["headers"]]}
                result = await self._store.put(data, plan_of(asked, SystemClock()))
                self._done[upload] = put_headers(result)
        return 204 if method == "PATCH" else 200, {
            "upload-offset": str(data.stat().st_size),
            "upload-length": str(length),
            **{name: value for name, value in self._done.get(upload, {}).items() if name.startswith("x-")},
        }

    def _create(self, scope: Any, fields: dict[str, str]) -> dict[str, str]:
        upload = secrets.token_hex(16)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{upload}.part").touch()
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        note = {"length": int(fields["upload-length"]), "headers": headers}
        (self._folder / f"{upload}.json").write_text(json.dumps(note))
        return {"location": f"/api/uploads/{upload}"}


async def _append(receive: Any, path: Path) -> None:
    with path.open("ab") as file:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            file.write(message.get("body", b""))
            if not message.get("more_body"):
                return
