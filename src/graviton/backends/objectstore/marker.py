"""`ObjectMarkerStore`: the store marker in a bucket, `<prefix>/graviton-store.json`."""

from __future__ import annotations

from graviton.backends.objectstore._driver import Driver
from graviton.errors import AlreadyExists
from graviton.metadata.marker import MARKER_FILE, MAX_MARKER_BYTES

__all__ = ["ObjectMarkerStore"]


class ObjectMarkerStore:
    """A `MarkerStore`. Its requests are the first that a store makes, so their driver should give up soon."""

    def __init__(self, driver: Driver, prefix: str, where: str) -> None:
        self._driver = driver
        self._path = f"{prefix}/{MARKER_FILE}" if prefix else MARKER_FILE
        self._where = where

    @property
    def where(self) -> str:
        """The bucket and prefix, which people know; not the object in it."""
        return self._where

    async def read(self) -> bytes | None:
        """The bytes of the object; None if it is not there. Raises ConfigError, PermissionDenied, Unavailable."""
        return await self._driver.get_small(self._path, self._subject, MAX_MARKER_BYTES + 1)

    async def write_new(self, data: bytes) -> None:
        """Make the object, or raise AlreadyExists and leave what is there. Where the server knows no condition, of two
        who do this at the same moment the later one wins, and the other finds that out when he looks again."""
        if await self._driver.exists(self._path, self._subject):
            raise self._taken()
        if not await self._driver.put_new(self._path, data, self._subject) and await self.read() != data:
            raise self._taken()

    async def replace(self, data: bytes) -> None:
        """Put `data` in the place of the object."""
        await self._driver.put(self._path, data, self._subject)

    async def check_replace(self) -> None:
        """A bucket tells only those who put."""

    @property
    def _subject(self) -> str:
        return f"the store marker at {self._where}"

    def _taken(self) -> AlreadyExists:
        return AlreadyExists(
            f"there is a store marker at {self._where} already", operation="store.init", subject=self._where
        )
