"""All bytes of a `BlobSource`, in memory: the reference reading of every kind of source."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import AsyncIterable, Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from graviton.concurrency.calls import CancelFlag
from graviton.concurrency.executors import WorkerPool, in_own_thread
from graviton.concurrency.pipes import wait_readable
from graviton.core.buffers import Buffer, as_bytes, memory_of
from graviton.errors import InvalidInput, NotFound, PermissionDenied, Unavailable
from graviton.ports.blobs import BlobSource

__all__ = ["read_source"]

_PIECE_BYTES = 1 << 20
"""Bytes read from a file object at once, so that nobody reads on after it was cancelled."""


async def read_source(source: BlobSource) -> bytes:
    """The bytes of `source`. Raises InvalidInput, NotFound, PermissionDenied, Unavailable, and what the source raises.

    Every piece is copied when it arrives: its owner may use the buffer again for the next one.
    """
    view = memory_of(source)
    if view is not None:
        return as_bytes(view).tobytes()
    if isinstance(source, os.PathLike):
        return await in_own_thread(_read_path, Path(source))
    if isinstance(source, AsyncIterable):  # before `read`: a BlobReader has one too, a coroutine
        return b"".join([as_bytes(piece).tobytes() async for piece in source])
    if hasattr(source, "read"):
        with WorkerPool(1, "source") as pool:
            return await pool.run(partial(_read_file, cast(BinaryIO, source)))
    if isinstance(source, Iterable) and not isinstance(source, str):
        return b"".join([as_bytes(piece).tobytes() for piece in cast(Iterable[Buffer], source)])
    raise InvalidInput(
        f"cannot put a {type(source).__name__}",
        operation="put",
        hint="Give bytes, a pathlib.Path, a binary file object, or pieces of bytes.",
    )


def _read_path(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise InvalidInput(f"{path} is not a regular file", operation="put", subject=str(path))
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", operation="put", subject=str(path)) from error
    except PermissionError as error:
        raise PermissionDenied(f"{path} may not be read", operation="put", subject=str(path)) from error
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error}", operation="put", subject=str(path)) from error


def _read_file(file: BinaryIO, flag: CancelFlag) -> bytes:
    """All that is left, or what was read until nobody wanted it any more."""
    pieces: list[bytes] = []
    try:
        # A raw pipe is left at once; one behind a buffer, as other file objects, after its next piece.
        pipe = file.fileno() if isinstance(file, io.FileIO) and not _is_regular(file) else None
        while not flag.cancelled and (pipe is None or wait_readable(pipe, flag)):
            piece = file.read(_PIECE_BYTES)
            if piece is None:
                raise Unavailable(
                    "the source would block", operation="put", hint="Open it in blocking mode, or give its pieces."
                )
            if not len(piece):
                break
            pieces.append(as_bytes(piece).tobytes())
    except OSError as error:
        raise Unavailable(f"the file cannot be read: {error}", operation="put") from error
    return b"".join(pieces)


def _is_regular(file: io.FileIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
