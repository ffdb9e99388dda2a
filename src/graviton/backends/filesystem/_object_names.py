"""How the path of an object becomes names on disk, and back.

An object may be called `c` and another `c/x`, which a plain tree of files cannot hold; and a segment may be longer than
the 255 bytes of a file name. So the first character of a name says what it is, and the rest is UTF-8 as it was:
`=name` an object, `+name` a folder for what follows `name/`, `~part` a folder for segments that begin with these 240
bytes. `c` is the file `=c`, `c/x` the file `+c/=x`. Every other name is foreign and skipped.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["ObjectName", "encode_path", "sort_key"]

PART_BYTES: Final = 240
"""Longest part of a segment in one name: with the mark in front and room to spare below 255 (ext4, XFS, Btrfs)."""

OBJECT, FOLDER, PART = b"=", b"+", b"~"


class ObjectName(NamedTuple):
    """A place below the root: folders from the outside in, then the file."""

    folders: tuple[bytes, ...]
    file: bytes


def encode_path(path: str) -> ObjectName:
    """The place of the object with this (legal) path."""
    folders: list[bytes] = []
    *parents, last = path.split("/")
    for segment in parents:
        folders.extend(_named(segment, FOLDER))
    *parts, file = _named(last, OBJECT)
    return ObjectName((*folders, *parts), file)


def _named(segment: str, mark: bytes) -> list[bytes]:
    raw = segment.encode()
    names = []
    while len(raw) >= PART_BYTES:  # also when equal: so no name can be both a whole segment and a part
        names.append(PART + raw[:PART_BYTES])
        raw = raw[PART_BYTES:]
    names.append(mark + raw)
    return names


def sort_key(name: bytes) -> bytes | None:
    """What all paths below this name, or its own, go on with; names sorted by it give paths in the order of UTF-8
    bytes, because no segment holds a slash. None for foreign names."""
    mark, rest = name[:1], name[1:]
    if mark == OBJECT or (mark == PART and len(rest) == PART_BYTES):
        return rest
    return rest + b"/" if mark == FOLDER else None
