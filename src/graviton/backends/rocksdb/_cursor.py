"""`Cursor`: one namespace as it was at one moment, read in pages from any key on.

RocksDB's iterators are the only views of rocksdict that scan a moment of the past (its `Snapshot.iter` shows the
present: docs/decisions/0041-rocksdb-store.md), and none of its other ways to scan tells the end of the data from an
error of the disk.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Final

from rocksdict import Rdict, RdictIter, ReadOptions

from graviton.backends.rocksdb.errors import translate
from graviton.errors import GravitonError, Unavailable

__all__ = ["Cursor"]

_PAGE_PAIRS: Final = 128
"""Pairs taken at a time: a cursor that several scans share is sought anew for each page (5 to 20 us)."""
_PAGE_BYTES: Final = 256 * 1024
"""Bytes after which a page ends: values may have 16 MiB."""


class Cursor:
    """Its own is whoever asks first; it may be shared by threads, each of which says from where it wants to read."""

    __slots__ = ("__weakref__", "_after", "_iterator", "_lock", "_operation", "_path")

    def __init__(self, family: Rdict, path: str, operation: str, options: ReadOptions | None = None) -> None:
        self._iterator: RdictIter | None = family.iter(options)
        self._lock = threading.Lock()
        self._after: bytes | None = None
        """The key behind which it stands; None: nowhere."""
        self._path = path
        self._operation = operation

    def close(self) -> None:
        """Give back what it holds of the store. Using it afterwards raises Unavailable."""
        with self._lock:
            self._iterator = None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value under each key."""
        found = (self._page(key, None, key, 1) for key in keys)
        return [page[0][1] if page and page[0][0] == key else None for key, page in zip(keys, found, strict=True)]

    def scan(self, prefix: bytes, after: bytes | None, limit: int | None) -> Iterator[list[tuple[bytes, bytes]]]:
        """Pages of pairs whose key begins with `prefix` and is greater than `after`, in order, `limit` at most."""
        start = prefix
        if after is not None and after < prefix:
            after = None
        while limit is None or limit > 0:
            page = self._page(start, after, prefix, _PAGE_PAIRS if limit is None else min(limit, _PAGE_PAIRS))
            if not page:
                return
            after = page[-1][0]
            yield page
            if limit is not None:
                limit -= len(page)

    def _page(self, start: bytes, after: bytes | None, prefix: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """At most `count` pairs, none only at the end. Raises IntegrityError, Unavailable: also for what lies behind
        the pairs it could give, when it is asked for that."""
        with self._lock:
            page, error = self._take(start, after, prefix, count)
        if error is not None and not page:
            # Not raised where the iterator is: who keeps an error keeps its frames, and would keep the store open.
            raise error if isinstance(error, GravitonError) else translate(error, self._path, self._operation)
        return page

    def _take(
        self, start: bytes, after: bytes | None, prefix: bytes, count: int
    ) -> tuple[list[tuple[bytes, bytes]], Exception | None]:
        iterator = self._iterator
        if iterator is None:
            return [], Unavailable("this transaction is over", operation=self._operation)
        if after is None or after != self._after:
            self._seek(iterator, start if after is None else after, behind=after is not None)
        page: list[tuple[bytes, bytes]] = []
        size = 0
        while len(page) < count and size < _PAGE_BYTES and iterator.valid():
            key = iterator.key()
            if not key.startswith(prefix):
                break
            value = iterator.value()
            page.append((key, value))
            size += len(value)
            iterator.next()
        self._after = page[-1][0] if page else None
        if not iterator.valid():
            try:
                iterator.status()
            except Exception as error:  # noqa: BLE001 - rocksdict knows no narrower one
                self._after = None
                return page, error.with_traceback(None)
        return page, None

    @staticmethod
    def _seek(iterator: RdictIter, key: bytes, behind: bool) -> None:
        if key:
            iterator.seek(key)
        else:
            iterator.seek_to_first()
        if behind and iterator.valid() and iterator.key() == key:
            iterator.next()
