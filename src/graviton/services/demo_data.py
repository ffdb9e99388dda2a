"""Something real that every machine has, in two states: the library folder of the running Python, as a tar.

The tar is a stream of pieces, made from the files as it is read and never held as a whole. It depends on names, sizes
and contents only (sorted, no owners, no times), so the same folder always gives the same bytes.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

__all__ = ["Changes", "Member", "change", "library_members", "tar_pieces"]

_READ_BYTES = 1 << 20
_RECORD_BYTES = 10_240
"""A tar ends at a multiple of this."""

_EDIT = b"# a line that was not there before\n"
_NEW_LINES = 400
_NEW = b"a file that was not there before, line %d\n"


class Member(NamedTuple):
    """One file of the tar: a file of the folder, perhaps with bytes inserted in its middle, or bytes alone."""

    name: str
    path: Path | None
    size: int
    """Bytes of the file at `path`, as it was when the folder was listed."""
    inserted: bytes = b""

    @property
    def total(self) -> int:
        """Bytes in the tar."""
        return self.size + len(self.inserted)


class Changes(NamedTuple):
    """How the second state differs from the first."""

    removed: int
    edited: int
    inserted: int


def library_members(folder: Path, max_bytes: int) -> list[Member]:
    """Regular files of `folder` in the order of their names, until `max_bytes` are reached. What the interpreter
    compiles by itself is left out: it may change while we look."""
    members: list[Member] = []
    total = 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(files):
            path = Path(place, name)
            if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                continue
            size = path.stat().st_size
            if total + size > max_bytes:
                continue
            total += size
            members.append(Member(str(path.relative_to(folder)), path, size))
    return members


def change(members: list[Member]) -> tuple[list[Member], Changes]:
    """The second state: as after an upgrade, changes lie together in some places, and a few anywhere."""
    count = len(members)
    few = max(1, count // 200)
    removed = set(range(count // 4, count // 4 + few))
    edited = set(range(count // 2, count // 2 + 2 * few)) | {count // 8, count - 1 - count // 8}
    insert_at = count * 3 // 4
    out: list[Member] = []
    for number, member in enumerate(members):
        if number == insert_at:
            text = b"".join(_NEW % line for line in range(_NEW_LINES))
            out += [Member(f"{member.name}.new-{n}", None, 0, b"# %d\n" % n + text) for n in range(few)]
        if number in removed:
            continue
        out.append(member._replace(inserted=_EDIT) if number in edited else member)
    return out, Changes(len(removed), len(edited - removed), few)


def tar_pieces(members: list[Member]) -> Iterator[bytes]:
    """The tar of `members`, piece by piece. A file that became shorter meanwhile is filled up, a longer one cut."""
    written = 0
    for member in members:
        info = tarfile.TarInfo(f"library/{member.name}")
        info.size = member.total
        for piece in chain([info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")], _content(member)):
            written += len(piece)
            yield piece
        padding = -written % tarfile.BLOCKSIZE
        written += padding
        yield bytes(padding)
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(written + end) % _RECORD_BYTES)


def _content(member: Member) -> Iterator[bytes]:
    if member.path is None:
        yield member.inserted
        return
    with open(member.path, "rb") as file:
        yield from _exactly(file.read, member.size // 2)
        yield member.inserted
        yield from _exactly(file.read, member.size - member.size // 2)


def _exactly(read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    while size:
        piece = read(min(size, _READ_BYTES)) or bytes(min(size, _READ_BYTES))
        size -= len(piece)
        yield piece
