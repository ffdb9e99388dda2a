"""What `graviton put` does for one path, and how it is told."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from graviton.assembly.environment import parse_size
from graviton.assembly.places import own_places, spool_folder
from graviton.assembly.settings import Settings
from graviton.cli.call import Call
from graviton.cli.options import parsed
from graviton.cli.output import path_text
from graviton.cli.progress import Amount, Tally, progress
from graviton.core.attribute_values import check_value
from graviton.core.attributes import FILE_NAME, MIME, BinaryAttributes, custom_name
from graviton.core.chunking.spec import ChunkerSpec
from graviton.core.clock import SystemClock
from graviton.core.hashing import HashAlgo
from graviton.core.listing_text import escape
from graviton.core.policies import BlobWritePlan
from graviton.errors import ConfigError, GravitonError, InvalidInput
from graviton.ports.any_store import AnyStore
from graviton.ports.blobs import BlobSource, BlobWriteResult, SmallBlob
from graviton.services.sources import CountedFile, has_changed, open_regular, paced, read_error, read_up_to
from graviton.services.tree_put import BATCH_BYTES, BATCH_FILES, SMALL_BYTES, TreePut

__all__ = ["Putter", "Wishes"]


class Wishes(NamedTuple):
    """The options of a put, parsed."""

    attributes: dict[str, str]
    chunker: ChunkerSpec | None
    hash: HashAlgo | None
    mime: str | None
    keep_name: bool
    bytes_per_second: int | None

    @classmethod
    def parse(
        cls,
        attributes: tuple[str, ...],
        chunker: str | None,
        algo: str | None,
        mime: str | None,
        no_name: bool,
        limit_rate: str | None,
    ) -> Wishes:
        """Raises BadArgument naming the option that is malformed."""
        return cls(
            dict(parsed("--attr", _attribute, text) for text in attributes),
            None if chunker is None else parsed("--chunker", ChunkerSpec.parse, chunker),
            None if algo is None else parsed("--hash", HashAlgo.parse, algo),
            None if mime is None else parsed("--mime", _mime, mime),
            not no_name,
            None if limit_rate is None else parsed("--limit-rate", _rate, limit_rate),
        )

    def plan(self, name: str | None) -> BlobWritePlan:
        """The plan for a file called `name`, a base name; None for what has none."""
        return BlobWritePlan(self.advertised(name))

    def applied(self, settings: Settings) -> Settings:
        """The settings with the chunker and hash that were asked for."""
        return settings._replace(chunker=self.chunker or settings.chunker, hash=self.hash or settings.hash)

    def advertised(self, name: str | None) -> BinaryAttributes:
        """The attributes for a file called `name`."""
        values = dict(self.attributes)
        if name is not None and self.keep_name:
            values.setdefault(FILE_NAME, name)
        if self.mime is not None:
            values[MIME] = self.mime
        return BinaryAttributes.EMPTY.advertise(values, at_ns=SystemClock().now_ns(), source="cli")


def _attribute(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"an attribute is given as NAME=VALUE, not {text[:80]!r}")
    full = custom_name(name)
    check_value(full, value)
    return full, value


def _mime(text: str) -> str:
    check_value(MIME, text)
    return text


def _rate(text: str) -> int:
    rate = parse_size(text)
    if rate < 1:
        raise InvalidInput("a rate is at least 1 byte per second")
    return rate


def _base_name(path: str) -> str:
    """As text that can be kept as an attribute: what is not UTF-8 is escaped as in a listing."""
    name = os.path.basename(path)
    return name if name.isprintable() else escape(os.fsencode(name))


def _is_folder(path: str) -> bool:
    return os.path.isdir(path)


def _folder_name(path: str) -> str:
    """The base name of a folder, also of `.`; that of the root is a slash."""
    return _base_name(os.path.realpath(path)) or "/"


class Putter:
    """Puts one path after the other."""

    def __init__(self, call: Call, store: AnyStore, wishes: Wishes, recursive: bool, follow: bool) -> None:
        self._out = call.out
        self._settings = call.any_settings()
        self._own = own_places(self._settings)
        self._store, self._wishes = store, wishes
        self._recursive, self._follow = recursive, follow
        self._throttle = None
        self._pending: list[tuple[str, SmallBlob]] = []
        self._pending_bytes = 0
        self._all_done = True
        self._tally = Tally()
        """Bytes of files that are stored."""
        if wishes.bytes_per_second is not None:
            from graviton.constraints.throttle import Throttle

            self._throttle = Throttle(wishes.bytes_per_second)

    async def put_all(self, paths: Sequence[str]) -> bool:
        """Put paths in their order and print what came of each; whether all of it is stored. Goes on after a failure;
        raises ConfigError, which would be the same for every path."""
        for path in paths:
            try:
                small = self._small(path) if len(paths) > 1 else None
                if small is not None:
                    self._pending.append((path, small))
                    self._pending_bytes += len(small.data)
                    if len(self._pending) < BATCH_FILES and self._pending_bytes < BATCH_BYTES:
                        continue
                await self._put_pending()
                if small is None:
                    await self._put(path)
            except ConfigError:
                raise
            except GravitonError as error:
                await self._put_pending()
                self.failed(path, error)
        await self._put_pending()
        return self._all_done

    async def _put(self, path: str) -> None:
        if path == "-":
            standard_input = _standard_input()
            self._own.check_input(standard_input.fileno())
            await self._put_file(standard_input, path, None)
        elif self._recursive and _is_folder(path):
            await self._put_tree(path)
        else:
            with self._open(path) as file:
                before = os.fstat(file.fileno())
                size = await self._put_file(file, path, _base_name(path))
                if has_changed(file, before, size):
                    self.changed(path)

    def _small(self, path: str) -> SmallBlob | None:
        """The content of a small file, which shares the cost of durability with its neighbours; None for all else.
        Raises GravitonError."""
        if path == "-" or self._throttle is not None or (self._recursive and _is_folder(path)):
            return None
        with self._open(path) as file:
            before = os.fstat(file.fileno())
            try:
                data = read_up_to(file, SMALL_BYTES + 1)
            except OSError as error:
                raise read_error(error, path) from error
            if len(data) > SMALL_BYTES:
                return None
            if has_changed(file, before, len(data)):
                self.changed(path)
        return SmallBlob(data, self._wishes.advertised(_base_name(path)))

    def _open(self, path: str) -> io.FileIO:
        """Raises GravitonError."""
        self._own.check_input(path)
        return open_regular(path)

    async def _put_pending(self) -> None:
        """Put the small files read so far, all of them or, if that fails, none."""
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        paths = iter([path for path, _ in pending])
        try:
            if pending:
                async for result in self._store.put_many([small for _, small in pending], self._wishes.plan(None)):
                    self.stored(next(paths), result)
        except ConfigError:
            raise
        except GravitonError as error:
            for path in paths:
                self.failed(path, error)

    async def _put_file(self, file: io.FileIO, path: str, name: str | None) -> int:
        """Put what `file` still holds; its bytes."""
        source: BlobSource = file if self._throttle is None else paced(file, self._throttle)
        with self._reading(file, path):
            result = await self._store.put(source, self._wishes.plan(name))
        self.stored(path, result)
        return result.stats.size

    def _reading(self, file: io.FileIO, path: str) -> AbstractContextManager[None]:
        """Show how far `file` is read, unless that is what somebody types."""
        info = os.fstat(file.fileno())
        label = "standard input" if path == "-" else path
        if file.isatty():
            return nullcontext()
        if isinstance(file, CountedFile) and not stat.S_ISREG(info.st_mode):
            return progress(self._out, label, lambda: Amount(file.read_bytes, None))
        return progress(self._out, label, lambda: Amount(file.tell(), info.st_size))

    async def _put_tree(self, path: str) -> None:
        from graviton.services.tree_walk import TreeWalk

        # A folder that cannot be read, or is the store's own, must not make a store.
        TreeWalk(path, excluded=self._own.excluded()).close()
        await self._store.prepare()
        put = TreePut(
            self._store,
            self,
            plan=self._wishes.plan(None),
            attributes_of=lambda file: self._wishes.advertised(_base_name(file)),
            listing_attributes=self._wishes.advertised(_folder_name(path)),
            follow=self._follow,
            throttle=self._throttle,
            spool_folder=spool_folder(self._settings),
        )
        self._tally = Tally()
        with progress(self._out, _folder_name(path), self._tally.look):
            done = await put.run(path, self._own.excluded(), SystemClock().now_ns())
        self._print(path, done.listing, type="listing", entries=done.entries, failed=done.failed)

    def stored(self, path: str, result: BlobWriteResult) -> None:
        """See `TreeEvents`."""
        self._tally.add(result.stats.size)
        self._print(path, result)

    def skipped(self, path: str, why: str) -> None:
        """See `TreeEvents`."""
        self._out.note(f"skipped {path_text(path)}: {why}")

    def changed(self, path: str) -> None:
        """See `TreeEvents`."""
        self._out.warn(f"{path_text(path)} changed while it was read; it is stored as it was read")

    def failed(self, path: str, error: GravitonError) -> None:
        """See `TreeEvents`."""
        self._all_done = False
        self._out.error(error, path=path_text(path))

    def _print(self, path: str, result: BlobWriteResult, **more: Any) -> None:
        stats = result.stats
        shown = path_text(path)
        self._out.result(
            f"{result.id}  {shown}",
            id=result.id,
            path=shown,
            size=stats.size,
            blocks=result.blocks,
            fresh_blocks=stats.fresh_blocks,
            fresh_bytes=stats.fresh_bytes,
            repaired_blocks=stats.repaired_blocks,
            seconds=round(stats.seconds, 6),
            chunker=result.chunker,
            created=result.created,
            **more,
        )
        self._out.flush()
        if stats.repaired_blocks:
            blocks = "block" if stats.repaired_blocks == 1 else "blocks"
            self._out.note(f"repaired {stats.repaired_blocks} {blocks} of {shown}")


def _standard_input() -> CountedFile:
    """Standard input without Python's buffer. Raises InvalidInput if it is closed."""
    raw = getattr(getattr(sys.stdin, "buffer", None), "raw", None)
    if not isinstance(raw, io.FileIO):
        raise InvalidInput("standard input is closed", operation="put", subject="-")
    if stat.S_ISDIR(os.fstat(raw.fileno()).st_mode):
        raise InvalidInput("standard input is a directory", operation="put", subject="-")
    return CountedFile(raw.fileno(), closefd=False)
