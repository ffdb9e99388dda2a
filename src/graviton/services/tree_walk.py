"""Walking a directory tree in the order of a listing, whatever the tree is like and others do to it meanwhile.

Each folder is read whole and sorted, so memory follows the largest folder and the depth, never the tree. No recursion
and no descriptor per level: a tree may be as deep as paths can be long. Everything is opened relative to the root and,
unless links are followed, without following one in the last place.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator, Set
from typing import NamedTuple

from graviton.core.listing import MAX_PATH_BYTES, EntryType
from graviton.errors import GravitonError, InvalidInput
from graviton.services.own_places import Identity, identity
from graviton.services.sources import kind_of, open_regular, read_error

__all__ = ["Found", "TreeWalk"]


class Found(NamedTuple):
    """One entry of the tree."""

    type: EntryType
    path: bytes
    """Relative to the root."""
    mode: int
    mtime_ns: int
    file: io.FileIO | None = None
    """Of a regular file: opened; whoever gets it closes it."""
    size: int = 0
    target: bytes | None = None


class _Frame:
    """A folder that is being walked."""

    __slots__ = ("folders", "identity", "names", "others", "prefix")

    def __init__(self, prefix: bytes, itself: Identity) -> None:
        self.prefix = prefix
        self.identity = itself
        self.names: list[bytes] = []
        """What is left, last first; a folder twice: as `name`, its entry, and as `name/`, its content."""
        self.folders: set[bytes] = set()
        self.others: set[bytes] = set()
        """Names that are neither files nor folders, as far as the folder knows."""


class TreeWalk:
    """Iterate once. `skipped(path, why)` and `failed(path, error)` are called for what is left out."""

    def __init__(
        self,
        root: str,
        *,
        follow: bool = False,
        excluded: Set[Identity] = frozenset(),
        skipped: Callable[[bytes, str], None] = lambda path, why: None,
        failed: Callable[[bytes, GravitonError], None] = lambda path, error: None,
    ) -> None:
        """Opens `root`, itself perhaps a link to a folder. Raises NotFound, PermissionDenied, and InvalidInput if it is
        no folder or lies within an excluded one."""
        self._root, self._follow, self._excluded = root, follow, excluded
        self._skipped, self._failed = skipped, failed
        try:
            self._fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise read_error(error, root) from error
        try:
            self._check_not_inside()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the root. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def shown(self, path: bytes) -> str:
        """The path of an entry as a person would type it."""
        return os.path.join(self._root, os.fsdecode(path)) if path else self._root

    def _check_not_inside(self) -> None:
        """Walk up from the root: none of the folders above may be an excluded one."""
        place, last = ".", None
        while (here := identity(os.stat(place, dir_fd=self._fd))) != last:
            if here in self._excluded:
                raise InvalidInput(
                    f"{self._root} belongs to the store itself",
                    operation="put",
                    subject=self._root,
                    hint="Choose a folder outside of the store.",
                )
            place, last = ("..", here) if place == "." else (place + "/..", here)

    def __iter__(self) -> Iterator[Found]:
        top = _Frame(b"", identity(os.fstat(self._fd)))
        self._scan(top)
        stack = [top]
        while stack:
            frame = stack[-1]
            if not frame.names:
                stack.pop()
                continue
            name = frame.names.pop()
            if name.endswith(b"/"):
                self._enter(stack, frame.prefix + name)
            else:
                found = self._visit(stack, frame, name)
                if found is not None:
                    yield found

    def _enter(self, stack: list[_Frame], prefix: bytes) -> None:
        frame = stack[-1]
        if prefix[len(frame.prefix) : -1] not in frame.folders:
            return  # its entry was left out
        child = _Frame(prefix, (0, 0))
        if self._scan(child):
            stack.append(child)

    def _scan(self, frame: _Frame) -> bool:
        """Read and sort a folder; whether that worked."""
        path = frame.prefix[:-1]
        try:
            fd = self._open_folder(path)
        except OSError as error:
            self._fail(path, error)
            return False
        try:
            frame.identity = identity(os.fstat(fd))
            with os.scandir(fd) as entries:
                for entry in entries:
                    self._sort_in(frame, entry)
        except OSError as error:
            self._fail(path, error)
            return False
        finally:
            os.close(fd)
        frame.names.sort(reverse=True)
        return True

    def _sort_in(self, frame: _Frame, entry: os.DirEntry[str]) -> None:
        name = os.fsencode(entry.name)
        frame.names.append(name)
        try:
            if entry.is_dir(follow_symlinks=self._follow):
                frame.names.append(name + b"/")
                frame.folders.add(name)
            elif not entry.is_file(follow_symlinks=self._follow):
                frame.others.add(name)
        except OSError:  # a link that leads to itself, say: looked at again, and reported, when its turn comes
            frame.others.add(name)

    def _open_folder(self, path: bytes) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if path and not self._follow:
            flags |= os.O_NOFOLLOW
        return os.open(path or b".", flags, dir_fd=self._fd)

    def _visit(self, stack: list[_Frame], frame: _Frame, name: bytes) -> Found | None:
        path = frame.prefix + name
        if len(path) > MAX_PATH_BYTES:
            frame.folders.discard(name)
            self._failed(path, InvalidInput(f"{self.shown(path)}: the path is too long", subject=self.shown(path)))
            return None
        try:
            if name in frame.folders:
                return self._folder(stack, frame, name, path)
            if name in frame.others:
                return self._other(path)
            return self._file(path)
        except OSError as error:
            self._fail(path, error)
        except GravitonError as error:
            self._failed(path, error)
        frame.folders.discard(name)
        return None

    def _folder(self, stack: list[_Frame], frame: _Frame, name: bytes, path: bytes) -> Found | None:
        fd = self._open_folder(path)
        try:
            info = os.fstat(fd)
        finally:
            os.close(fd)
        itself = identity(info)
        if itself in self._excluded:
            frame.folders.discard(name)
            self._skipped(path, "it belongs to the store itself")
            return None
        if self._follow and any(above.identity == itself for above in stack):
            raise InvalidInput(f"{self.shown(path)}: the link leads back to a folder above it", operation="put")
        return Found(EntryType.DIRECTORY, path, stat.S_IMODE(info.st_mode), info.st_mtime_ns)

    def _file(self, path: bytes) -> Found | None:
        # Looked at before it is opened: closing a descriptor of the store's database would drop SQLite's locks.
        if self._excluded:
            info = os.stat(path, dir_fd=self._fd, follow_symlinks=self._follow)
            if identity(info) in self._excluded:
                self._skipped(path, "it belongs to the store itself")
                return None
        file = open_regular(path, dir_fd=self._fd, follow=self._follow, shown=self.shown(path))
        info = os.fstat(file.fileno())
        return Found(EntryType.FILE, path, stat.S_IMODE(info.st_mode), info.st_mtime_ns, file, info.st_size)

    def _other(self, path: bytes) -> Found | None:
        info = os.stat(path, dir_fd=self._fd, follow_symlinks=self._follow)
        if stat.S_ISLNK(info.st_mode):
            target = os.readlink(path, dir_fd=self._fd)
            return Found(EntryType.LINK, path, stat.S_IMODE(info.st_mode), info.st_mtime_ns, target=target)
        if stat.S_ISREG(info.st_mode):
            return self._file(path)  # it became one since the folder was read
        if stat.S_ISDIR(info.st_mode):
            raise InvalidInput(f"{self.shown(path)} changed while it was read", operation="put")
        self._skipped(path, f"it is {kind_of(info.st_mode)}")
        return None

    def _fail(self, path: bytes, error: OSError) -> None:
        shown = self.shown(path)
        if self._follow and error.errno == errno.ENOENT:
            message = f"{shown} does not exist, or is a link that leads nowhere"
            self._failed(path, InvalidInput(message, operation="put", subject=shown))
        else:
            self._failed(path, read_error(error, shown))
