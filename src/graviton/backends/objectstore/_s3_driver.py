"""`S3Driver`: blocks on S3, put and got by one driver; whatever is believed without bytes goes through the other.

`obstore` follows redirects, and cannot be told not to: a network that wants one to sign in then answers with its own
page to a HEAD (the block is there), a copy (it is done) and a delete. And a page that is none (a failure with status
200) is an empty listing to it; nothing tells them apart afterwards. What a get brings is compared with its digest. What
a put brings is an ETag, which has to look like one of S3.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from graviton.backends.objectstore._driver import Driver, Found
from graviton.backends.objectstore._s3_api import S3Api
from graviton.backends.objectstore.errors import no_server

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["S3Driver"]

_ETAG: Final = re.compile(r'"?[0-9a-fA-F][0-9a-fA-F-]{31,127}"?', re.ASCII)
"""Of S3 and its relatives: an MD5 or, encrypted by KMS, another number of 32 digits. Those of servers of pages are
shorter: nginx and Apache make them from a time and a length."""


_GONE_CODES: Final = ("NoSuchKey", "NoSuchVersion")
"""What some servers call an error of a delete."""


class S3Driver(Driver):
    """Both drivers, with the same bounds and metrics. The client of `api` is made when it is first used."""

    def __init__(self, store: ObjectStore, api: S3Api) -> None:
        super().__init__(store, api.requests)
        self._api = api
        self._hurried: list[S3Driver] = []

    def hurried(self, seconds: float) -> S3Driver:
        config = self._api.config
        soon = replace(
            config,
            connect_seconds=min(config.connect_seconds, seconds),
            request_seconds=min(config.request_seconds, seconds),
        )
        made = S3Driver(self._store, S3Api(soon, self.requests.hurried(seconds)))
        self._hurried.append(made)
        return made

    async def exists(self, path: str, subject: str) -> bool:
        # While a name is put rclone's server may have no hash for it, and says so by an ETag that is empty.
        return await self._api.head(path, subject, _ETAG.fullmatch) is not None

    async def copy_to_new(self, path: str, to: str, subject: str) -> None:
        await self._api.copy(path, to, subject)  # which looks for failures with status 200

    async def delete(self, paths: Sequence[str], subject: str) -> None:
        if len(paths) == 1:
            await self._api.delete(paths[0], subject)
        elif paths:
            await self._api.on_thread("delete", subject, lambda client, flag: self._delete(client, paths, subject))

    def _delete(self, client: Any, paths: Sequence[str], subject: str) -> None:
        """Ask for all at once; the answer says of each what became of it."""
        from botocore.exceptions import ClientError

        wanted = {"Objects": [{"Key": path} for path in paths]}
        told = client.delete_objects(Bucket=self._api.config.bucket, Delete=wanted)
        gone = {one.get("Key") for one in told.get("Deleted", ())}
        for one in told.get("Errors", ()):
            if one.get("Code") in _GONE_CODES:
                gone.add(one.get("Key"))
                continue
            status = 403 if one.get("Code") == "AccessDenied" else 500
            raise ClientError({"Error": one, "ResponseMetadata": {"HTTPStatusCode": status}}, "DeleteObjects")
        if not gone.issuperset(paths):
            raise no_server("delete", subject)

    async def list(self, folder: str, subject: str, after: str = "") -> AsyncGenerator[Found, None]:
        prefix = f"{folder}/" if folder else ""
        async with aclosing(self._api.objects(prefix, subject, after)) as objects:
            async for one in objects:
                yield Found(one.key, one.size)

    async def aclose(self) -> None:
        for one in (*self._hurried, self):
            await one._api.aclose()

    def _check_etag(self, etag: str | None, operation: str, subject: str) -> None:
        if not etag or not _ETAG.fullmatch(etag):
            raise no_server(operation, subject)
