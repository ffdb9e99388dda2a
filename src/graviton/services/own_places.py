"""Where a store itself lies: what a command must neither write over, nor open as if it were somebody's file.

Writing there destroys the store. Reading its database does too, in a quieter way: SQLite holds POSIX locks, and those
of a whole process are gone once *any* descriptor of the file is closed in it (https://sqlite.org/howtocorrupt.html,
2.2). So what belongs to the store is told from outside, by device and inode: links and bind mounts hide nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from graviton.errors import InvalidInput

__all__ = ["Identity", "OwnNames", "OwnPlaces", "belongs", "identities", "identity"]

Identity = tuple[int, int]
"""Device and inode: the same file under whatever name, also through links and bind mounts."""


def identity(info: os.stat_result) -> Identity:
    """The identity of what `info` is about."""
    return info.st_dev, info.st_ino


def identities(paths: Sequence[str]) -> frozenset[Identity]:
    """The identities of those of `paths` that exist, links followed."""
    return frozenset(_existing(paths))


def _existing(paths: Sequence[str]) -> Iterator[Identity]:
    for path in paths:
        try:
            yield identity(os.stat(path))
        except OSError:
            continue  # not there, so nothing can be it


def belongs(path: str, operation: str, hint: str = "Choose a place outside of the store.") -> InvalidInput:
    """The error of who touches what is the store's."""
    return InvalidInput(f"{path} belongs to the store itself", operation=operation, subject=path, hint=hint)


class OwnNames(NamedTuple):
    """What must not be written over, as it was at one moment; for many questions at once."""

    identities: frozenset[Identity] = frozenset()
    names: frozenset[tuple[Identity, bytes]] = frozenset()
    """Folder and name, also of what is not there yet: a `-journal` that somebody makes would be played back."""

    def has(self, name: bytes, folder: str | int) -> bool:
        """Whether `name` in `folder`, a path or descriptor, is the store's. Links in the last place are not followed.
        Raises OSError if there is no such folder."""
        if not self.identities and not self.names:
            return False
        if (identity(os.stat(folder)), name) in self.names:
            return True
        try:
            if isinstance(folder, int):
                info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            else:
                info = os.lstat(os.path.join(os.fsencode(folder), name))
        except FileNotFoundError:
            return False
        return identity(info) in self.identities


class OwnPlaces(NamedTuple):
    """Paths of one store; they need not exist. Every question looks at the disk anew, because puts make files."""

    root: str | None = None
    """The store's folder, in which others may keep files of their own; never read by a put of a tree."""
    folders: tuple[str, ...] = ()
    """Folders that are the store's with everything in them."""
    database: tuple[str, ...] = ()
    """Files of which no other descriptor may be opened while the store is open."""
    files: tuple[str, ...] = ()
    """Other files of the store."""

    def excluded(self) -> frozenset[Identity]:
        """What a put of a tree leaves out."""
        root = () if self.root is None else (self.root,)
        return identities((*root, *self.folders, *self.database, *self.files))

    def names(self) -> OwnNames:
        """What nothing may be written over."""
        paths = (*self.folders, *self.database, *self.files)
        found = set()
        for path in paths:
            above, name = os.path.split(os.path.realpath(path))
            found |= {(folder, os.fsencode(name)) for folder in identities((above,))}
        return OwnNames(identities(paths), frozenset(found))

    def check_input(self, file: str | int) -> None:
        """Raises InvalidInput if `file`, a path or descriptor, is one of the database. Opens nothing."""
        try:
            itself = identity(os.stat(file))
        except OSError:
            return  # whoever opens it says why that cannot be
        if itself in identities(self.database):
            name = "standard input" if isinstance(file, int) else file
            raise belongs(name, "put", "`graviton meta backup FILE` makes a file of it that can be put.")

    def check_output(self, path: str) -> None:
        """Raises InvalidInput if a file written to `path`, links followed, would touch the store."""
        folder, name = os.path.split(os.path.realpath(path))
        try:
            own = self._is_inside(folder) or self.names().has(os.fsencode(name), folder)
        except OSError:
            return  # whoever writes it says why that cannot be
        if own:
            raise belongs(path, "write")

    def check_folder(self, path: str) -> None:
        """Raises InvalidInput if the folder `path`, there or not, lies in the store's own folders."""
        if self._is_inside(os.path.realpath(path)):
            raise belongs(path, "write")

    def _is_inside(self, folder: str) -> bool:
        above = [folder]
        while (parent := os.path.dirname(above[-1])) != above[-1]:
            above.append(parent)
        return not identities(self.folders).isdisjoint(identities(above))
