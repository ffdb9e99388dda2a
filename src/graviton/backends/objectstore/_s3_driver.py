"""`S3Driver`: the driver of blocks on S3, which lists through the other one.

For `obstore` a page that is none (a failure with status 200, a page of somebody else's) is an empty one, and nothing
tells them apart afterwards. A listing that is told as short would make audits lie.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from graviton.backends.objectstore._driver import Driver, Found
from graviton.backends.objectstore._s3_api import S3Api

if TYPE_CHECKING:
    from obstore.store import S3Store

__all__ = ["S3Driver"]


class S3Driver(Driver):
    """Both drivers, with the same bounds and metrics. The client of `api` is made when something is listed."""

    def __init__(self, store: S3Store, api: S3Api) -> None:
        super().__init__(store, api.requests)
        self._s3_store, self._api = store, api

    def hurried(self, seconds: float) -> S3Driver:
        return S3Driver(self._s3_store, self._api.hurried(seconds))

    async def list(self, folder: str, subject: str, after: str = "") -> AsyncGenerator[Found, None]:
        prefix = f"{folder}/" if folder else ""
        async with aclosing(self._api.objects(prefix, subject, after)) as objects:
            async for one in objects:
                yield Found(one.key, one.size)

    async def aclose(self) -> None:
        await self._api.aclose()
