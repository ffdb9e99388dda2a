"""What `graviton get` does, by what the blob is and where it goes."""

from __future__ import annotations

import os
import stat
import time
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

from graviton.assembly.places import own_places
from graviton.cli.call import Call
from graviton.cli.errors import BadArgument, from_os_error
from graviton.cli.ids import resolve
from graviton.cli.output import path_text
from graviton.cli.progress import Amount, Tally, progress
from graviton.constraints.process import keep_freed_memory
from graviton.core.byte_range import ByteRange
from graviton.core.keys import BlobKey
from graviton.core.listing import ListingEntry
from graviton.core.ranges import Span
from graviton.errors import AlreadyExists, GravitonError, InvalidInput, NotFound
from graviton.ports.any_store import AnyStore
from graviton.ports.blobs import BlobReader, BlobStat
from graviton.services.output_files import holds_blob, write_file
from graviton.services.output_pipe import DescriptorWriter
from graviton.services.tree_put import LISTING_MIME

__all__ = ["Getter", "Target"]

_MIN_PIPED_BYTES = 32 * 1024 * 1024
"""Less goes through a pipe at once, or into a pager, whose screen a bar would spoil."""

_SETTLE_BYTES = 256 * 1024 * 1024
"""From here on keeping freed memory saves more than the 10 ms that it takes (docs/decisions/0052-small-gets.md)."""


class Target(NamedTuple):
    """Where the bytes go: standard output if there is no path."""

    path: str | None
    mode: int
    """Of what is there, links followed; 0 if nothing is."""

    @classmethod
    def of(cls, output: str | None) -> Target:
        """The target that was asked for. Raises GravitonError if it cannot be looked at."""
        if output is None or output == "-":
            return cls(None, _mode_of_stdout())
        try:
            return cls(output, os.stat(output).st_mode)
        except FileNotFoundError:
            return cls(output, 0)
        except OSError as error:
            raise from_os_error(error, output, "cannot write") from error

    @property
    def is_terminal(self) -> bool:
        """Whether somebody would see the bytes on a screen."""
        return self.path is None and self.mode != 0 and os.isatty(1)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, or can only be meant as one."""
        return self.path is not None and (stat.S_ISDIR(self.mode) or self.path.endswith("/"))


def _written(writer: DescriptorWriter, total: int) -> Amount:
    return Amount(writer.written_bytes, total)


def _mode_of_stdout() -> int:
    try:
        return os.fstat(1).st_mode
    except OSError:
        return 0


class Getter:
    """Gets one blob or tree."""

    def __init__(self, call: Call, store: AnyStore, force: bool, keep_set_id: bool) -> None:
        self._out, self._store = call.out, store
        settings = call.any_settings()
        self._own = own_places(settings)
        self._kept_bytes = 0 if settings.server is not None else settings.memory_bytes
        """Of memory that is freed, how much may be kept."""
        self._force, self._keep_set_id = force, keep_set_id
        self._tally = Tally()
        """Bytes of files that are restored."""

    async def get(self, blob_id: str, target: Target, wanted: ByteRange | None) -> int:
        """Get the blob; the exit code. Raises GravitonError."""
        cas = await self._store.required()
        key = await resolve(cas, blob_id)
        found = await cas.stat(key)
        if found is None:
            raise NotFound(
                f"there is no blob {key}", operation="get", subject=key.text, hint="`graviton ls` lists what is there."
            )
        if wanted is None and target.path is not None and found.attributes.mime == LISTING_MIME:
            return await self._restore(key, target)
        if wanted is not None and target.is_folder and found.attributes.mime == LISTING_MIME:
            raise BadArgument(
                "--range: a tree is restored whole; a range of its listing goes to a file or standard output",
                operation="get",
                subject=key.text,
            )
        span = None if wanted is None else wanted.resolve(key.size)
        if self._kept_bytes and (key.size if span is None else span.length) >= _SETTLE_BYTES:
            keep_freed_memory(self._kept_bytes)
        started = time.perf_counter()
        async with await cas.get(key, span) as reader:
            path = await self._write(reader, found, target, whole=span is None)
        self._tell(key, span, path, time.perf_counter() - started)
        return 0

    async def _write(self, reader: BlobReader, found: BlobStat, target: Target, whole: bool) -> str:
        try:
            if target.path is None:
                return await self._to_stdout(reader)
            if target.is_folder:
                return await self._into_folder(reader, found, target, whole)
            if target.mode and not stat.S_ISREG(target.mode):
                return await self._to_device(reader, target.path)
            self._own.check_output(target.path)
            return await self._to_file(reader, os.path.realpath(target.path), target.path)  # noqa: ASYNC240
        except BrokenPipeError:
            raise
        except OSError as error:
            raise from_os_error(error, target.path or "standard output", "cannot write") from error

    async def _to_stdout(self, reader: BlobReader) -> str:
        self._out.data_on_stdout()
        await self._copy(reader, 1, "standard output")
        return "-"

    async def _to_device(self, reader: BlobReader, path: str) -> str:
        """A device or pipe is written to, never replaced."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            await self._copy(reader, fd, path)
        finally:
            os.close(fd)
        return path

    async def _copy(self, reader: BlobReader, fd: int, label: str) -> None:
        async with DescriptorWriter(fd) as writer:
            # The bytes may go to the very terminal, or soon through a pager to it, which a small blob waits in.
            shows = reader.size >= _MIN_PIPED_BYTES and not os.isatty(fd)
            look = partial(_written, writer, reader.size)
            with progress(self._out, label, look) if shows else nullcontext():
                await writer.copy(reader)

    async def _into_folder(self, reader: BlobReader, found: BlobStat, target: Target, whole: bool) -> str:
        """Under the name it was put with, which anybody could have chosen: nothing different is replaced."""
        assert target.path is not None
        path = os.path.join(target.path, _name_for(found))
        self._own.check_output(path)
        if not self._force and os.path.lexists(path):  # noqa: ASYNC240 - one look
            if whole and holds_blob(path, found.key):
                return path
            raise AlreadyExists(
                f"{path_text(path)} exists and is different",
                operation="get",
                subject=path_text(path),
                hint="Name the file with -o, or replace it with --force.",
            )
        return await self._to_file(reader, path, path)

    async def _to_file(self, reader: BlobReader, path: str, shown: str) -> str:
        """An existing file is replaced by one with its mode; a secret one must not become readable meanwhile."""
        kept = _mode_to_keep(path)
        fds: list[int] = []

        def look() -> Amount:
            # Blocks are written in any order: what the file takes on the disk is what is there.
            return Amount(os.fstat(fds[0]).st_blocks * 512 if fds else 0, reader.size)

        def finish(fd: int) -> None:
            fds.clear()
            if kept is not None:
                os.fchmod(fd, kept)

        with progress(self._out, shown, look):
            await write_file(reader, path, mode=0o666 if kept is None else 0o600, opened=fds.append, finish=finish)
        return shown

    def _tell(self, key: BlobKey, span: Span | None, path: str, seconds: float) -> None:
        values: dict[str, object] = {"id": key.text, "size": key.size, "path": path_text(path)}
        if span is not None:
            values |= {"offset": span.start, "length": span.end - span.start}
        self._out.result(None, **values, seconds=round(seconds, 6))
        if path != "-":
            self._out.detail(f"wrote {path_text(path)}")

    async def _restore(self, key: BlobKey, target: Target) -> int:
        from graviton.services.tree_restore import TreeRestore

        assert target.path is not None
        self._own.check_folder(target.path)
        folder = _folder_for_tree(target.path, target.mode)
        started = time.perf_counter()
        cas = await self._store.required()
        restore = TreeRestore(cas, self, force=self._force, keep_set_id=self._keep_set_id, own=self._own)
        with progress(self._out, folder, self._tally.look):
            done = await restore.run(key, folder)
        self._out.result(
            None,
            id=key.text,
            size=key.size,
            path=path_text(folder),
            type="listing",
            entries=done.entries,
            files=done.files,
            bytes=done.bytes,
            failed=done.failed,
            seconds=round(time.perf_counter() - started, 6),
        )
        if done.failed:
            self._out.note(f"{done.failed} of {done.entries} entries were not restored")
        return 1 if done.failed else 0

    def checked(self, total_bytes: int) -> None:
        """See `RestoreEvents`."""
        self._tally.at(0, total_bytes)

    def restored(self, path: str, entry: ListingEntry) -> None:
        """See `RestoreEvents`."""
        self._tally.add(entry.size or 0)
        self._out.detail(f"restored {path_text(path)}")

    def failed(self, path: str, error: GravitonError) -> None:
        """See `RestoreEvents`."""
        self._out.error(error, path=path_text(path))


def _mode_to_keep(path: str) -> int | None:
    """Permissions of the regular file that is to be replaced, without setuid and setgid; None if there is none."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    return mode & 0o777 if stat.S_ISREG(mode) else None


def _folder_for_tree(path: str, mode: int) -> str:
    """The folder to restore into, which need not be there. Raises InvalidInput."""
    if mode and not stat.S_ISDIR(mode):
        raise InvalidInput(
            f"{path_text(path)} is not a folder, and this id is a listing",
            operation="get",
            subject=path_text(path),
            hint="Name a folder to restore the tree, or see the listing with `graviton cat`.",
        )
    return path


def _name_for(found: BlobStat) -> str:
    """The base name the blob was put with, if it can be one; else its digest. The name is not to be trusted."""
    name = found.attributes.file_name or ""
    fits = len(name.encode(errors="replace")) <= 255
    if name in ("", ".", "..") or "/" in name or not fits or not name.isprintable():
        return found.key.hex
    return name
