"""All bytes of a `BlobSource`, in memory: the reference reading of every kind of source."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import BinaryIO, cast

from graviton.core.buffers import Buffer, as_bytes, memory_of
from graviton.errors import InvalidInput, NotFound, PermissionDenied, Unavailable
from graviton.ports.blobs import BlobSource

__all__ = ["read_source"]


async def read_source(source: BlobSource) -> bytes:
    """The bytes of `source`. Raises InvalidInput, NotFound, PermissionDenied, Unavailable, and what the source raises.

    Every piece is copied when it arrives: its owner may use the buffer again for the next one.
    """
    view = memory_of(source)
    if view is not None:
        return as_bytes(view).tobytes()
    if isinstance(source, os.PathLike):
        return await asyncio.to_thread(_read_path, Path(source))
    if isinstance(source, AsyncIterable):  # before `read`: a BlobReader has one too, a coroutine
        return b"".join([as_bytes(piece).tobytes() async for piece in source])
    if hasattr(source, "read"):
        return await asyncio.to_thread(_read_file, cast(BinaryIO, source))
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


def _read_file(file: BinaryIO) -> bytes:
    try:
        return as_bytes(file.read()).tobytes()
    except OSError as error:
        raise Unavailable(f"the file cannot be read: {error}", operation="put") from error
    except StopIteration as error:  # no future takes one: the caller would wait for ever
        raise RuntimeError("the file's read() raised StopIteration") from error
