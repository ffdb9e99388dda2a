"""The listing of a directory tree: the text that `graviton put -r` stores as a blob and `get -o DIR` restores from.

docs/formats/listing.md is the definition. One line per entry, sorted by the bytes of the path, so that two states of a
tree differ only where the tree does, and the blobs of their listings share most blocks. Encoder and decoder are
streams: they hold one line and the lengths of the directories that lead to it, never the tree.

To walk a tree in this order, sort the names of a folder where each folder inside counts twice: as `name` (its entry)
and as `name/` (its content).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final

from graviton.core._frozen import Frozen, set_field
from graviton.core.buffers import Buffer
from graviton.core.keys import BlobKey
from graviton.core.listing_text import escape, unescape
from graviton.errors import InvalidInput

__all__ = [
    "HEADER",
    "MAX_LINE_BYTES",
    "MAX_PATH_BYTES",
    "EntryType",
    "ListingDecoder",
    "ListingEncoder",
    "ListingEntry",
    "decode_listing",
    "encode_listing",
]

HEADER: Final = b"graviton-listing 1\n"
"""The first line: name and version of the format."""

MAX_PATH_BYTES: Final = 4096
"""Of a path or link target: PATH_MAX of Linux, beyond which a system call cannot name a file."""

MAX_LINE_BYTES: Final = 2 * 4 * MAX_PATH_BYTES + 256
"""Path and target with every byte escaped as four, and room for the other columns (at most 145 bytes)."""

_MAX_MTIME: Final = 2**63 - 1


class EntryType(Enum):
    """What an entry is; the value is its letter in the listing."""

    FILE = "f"
    DIRECTORY = "d"
    LINK = "l"


_OCTAL = frozenset("01234567")
_TYPES = {kind.value: kind for kind in EntryType}


class ListingEntry(Frozen):
    """One file, directory or symbolic link, with its path relative to the listed directory."""

    __slots__ = ("key", "mode", "mtime_ns", "path", "target", "type")
    __match_args__ = ("type", "path", "mode", "mtime_ns", "key", "target")
    type: EntryType
    path: bytes
    mode: int
    mtime_ns: int
    key: BlobKey | None
    target: bytes | None

    def __init__(
        self,
        type: EntryType,
        path: bytes,
        mode: int,
        mtime_ns: int,
        key: BlobKey | None = None,
        target: bytes | None = None,
    ) -> None:
        """`path`: bytes as the file system has them, segments joined by `/`; `mode`: permission bits, 0 to 0o7777;
        `mtime_ns`: nanoseconds since 1970 UTC, may be negative; `key`: the blob of a file, and only of a file;
        `target`: of a link, and only of a link. Raises InvalidInput.
        """
        _check_entry_path(path)
        if not 0 <= mode <= 0o7777:
            raise InvalidInput(f"a mode is 0 to 07777, not {mode:o}")
        if not -_MAX_MTIME - 1 <= mtime_ns <= _MAX_MTIME:
            raise InvalidInput(f"a modification time of {mtime_ns} ns does not fit 64 bits")
        if (key is not None) != (type is EntryType.FILE):
            raise InvalidInput("a file has an id, and nothing else has one")
        if (target is not None) != (type is EntryType.LINK):
            raise InvalidInput("a link has a target, and nothing else has one")
        if target is not None and (not 1 <= len(target) <= MAX_PATH_BYTES or b"\x00" in target):
            raise InvalidInput(f"a link target has 1 to {MAX_PATH_BYTES} bytes and no NUL")
        for name, value in zip(self.__match_args__, (type, path, mode, mtime_ns, key, target), strict=True):
            set_field(self, name, value)

    @property
    def size(self) -> int | None:
        """Bytes of a file; None for anything else."""
        return None if self.key is None else self.key.size


def _check_entry_path(path: bytes) -> None:
    if not 1 <= len(path) <= MAX_PATH_BYTES:
        raise InvalidInput(f"a path has 1 to {MAX_PATH_BYTES} bytes, not {len(path)}")
    if b"\x00" in path:
        raise InvalidInput(f"the path {path[:80]!r} has a NUL in it")
    if path[0] == 0x2F:
        raise InvalidInput(f"the path {path[:80]!r} is absolute")
    for segment in path.split(b"/"):
        if segment in (b"", b".", b".."):
            raise InvalidInput(f"the path {path[:80]!r} has a segment {segment.decode()!r}")


class _Order:
    """Checks that paths ascend and that each stands in a directory listed before it.

    Kept: the last path, and which of its prefixes (itself among them) are entries. That is enough: an entry that is
    not a prefix of a later path sorts before it together with all that could be below the entry.
    """

    __slots__ = ("_last", "_listed")

    def __init__(self) -> None:
        self._last = b""
        self._listed: list[tuple[int, bool]] = []  # (length of the prefix, is a directory), ascending

    def check(self, path: bytes, is_directory: bool) -> None:
        if path <= self._last:
            what = "listed twice" if path == self._last else "out of order"
            raise InvalidInput(f"the path {path[:80]!r} is {what}")
        listed = self._listed
        while listed and not path.startswith(self._last[: listed[-1][0]]):
            listed.pop()
        parent = path.rfind(b"/")
        if parent >= 0:
            found = next((directory for length, directory in reversed(listed) if length == parent), None)
            if not found:
                problem = "is not in the listing" if found is None else "is not a directory"
                raise InvalidInput(f"the path {path[:80]!r} is in {path[:parent][:80]!r}, which {problem}")
        listed.append((len(path), is_directory))
        self._last = path


class ListingEncoder:
    """Writes a listing: `HEADER` first, then `encode` for each entry in the order of the paths' bytes."""

    __slots__ = ("_order",)

    def __init__(self) -> None:
        self._order = _Order()

    def encode(self, entry: ListingEntry) -> bytes:
        """The line of `entry`. Raises InvalidInput if the decoder would refuse it here: order, duplicate, parent."""
        self._order.check(entry.path, entry.type is EntryType.DIRECTORY)
        size, key = ("-", "-") if entry.key is None else (entry.key.size, entry.key.text)
        target = "" if entry.target is None else "\t" + escape(entry.target)
        line = f"{entry.type.value}\t{entry.mode:04o}\t{entry.mtime_ns}\t{size}\t{key}\t{escape(entry.path)}{target}\n"
        return line.encode()


class ListingDecoder:
    """Reads a listing from pieces of bytes, cut anywhere; every error is InvalidInput and names the line.

    Memory: one line and the entries of one piece. After an error the decoder is of no more use.
    """

    __slots__ = ("_line", "_order", "_rest")

    def __init__(self) -> None:
        self._order = _Order()
        self._rest = bytearray()
        self._line = 0  # lines seen

    def feed(self, data: Buffer) -> list[ListingEntry]:
        """The entries whose lines end in `data`. Raises InvalidInput."""
        before = len(self._rest)
        self._rest += data
        end = self._rest.rfind(b"\n", before) + 1
        lines = bytes(self._rest[:end]).split(b"\n")[:-1] if end else []
        del self._rest[:end]
        entries = []
        for line in lines:
            self._line += 1
            try:
                self._check_length(len(line))
                if self._line > 1:
                    entries.append(self._entry(line))
                else:
                    _check_header(line)
            except InvalidInput as error:
                raise self._at_line(error) from None
        if len(self._rest) > MAX_LINE_BYTES:
            self._line += 1
            raise self._at_line(_too_long())
        return entries

    def finish(self) -> None:
        """Say that there is no more. Raises InvalidInput if the header or the end of the last line is missing."""
        if self._rest or self._line == 0:
            self._line += 1
            raise self._at_line(InvalidInput("the listing ends before the end of a line"))

    def _check_length(self, length: int) -> None:
        if length >= MAX_LINE_BYTES:
            raise _too_long()

    def _at_line(self, error: InvalidInput) -> InvalidInput:
        return InvalidInput(
            f"line {self._line} of the listing: {error.message}", operation="listing.decode", hint=_WRONG_LISTING
        )

    def _entry(self, line: bytes) -> ListingEntry:
        try:
            columns = line.decode().split("\t")
        except UnicodeDecodeError:
            raise InvalidInput("it is not UTF-8") from None
        kind = _TYPES.get(columns[0])
        if kind is None:
            raise InvalidInput(f"unknown type {columns[0][:20]!r}")
        if len(columns) != 6 + (kind is EntryType.LINK):
            raise InvalidInput(f"it has {len(columns)} columns")
        _, mode, mtime, size, key_text, path, *target = columns
        key = None if key_text == "-" else BlobKey.parse(key_text)
        if size != ("-" if key is None else str(key.size)):
            raise InvalidInput(f"the size {size[:40]!r} is not that of the id")
        entry = ListingEntry(
            kind, unescape(path), _mode(mode), _mtime(mtime), key, unescape(target[0]) if target else None
        )
        if key is not None and key.text != key_text:
            raise InvalidInput("the id is not in its canonical form")
        self._order.check(entry.path, kind is EntryType.DIRECTORY)
        return entry


_WRONG_LISTING: Final = "See its text with `graviton cat ID`; docs/formats/listing.md says what belongs there."


def _check_header(line: bytes) -> None:
    if line + b"\n" == HEADER:
        return
    if line.startswith(b"graviton-listing "):
        raise InvalidInput(f"version {line[17:40]!r} of the format is not known to this program")
    raise InvalidInput("this is not a listing")


def _too_long() -> InvalidInput:
    return InvalidInput(f"it has more than {MAX_LINE_BYTES} bytes")


def _mode(text: str) -> int:
    if len(text) != 4 or not _OCTAL.issuperset(text):
        raise InvalidInput(f"the mode {text[:20]!r} is not four octal digits")
    return int(text, 8)


def _mtime(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19 or str(int(text)) != text:
        raise InvalidInput(f"the modification time {text[:40]!r} is not a plain decimal number")
    return int(text)


def encode_listing(entries: Iterable[ListingEntry]) -> Iterator[bytes]:
    """The lines of a listing, header first. Raises InvalidInput as `ListingEncoder.encode`."""
    encoder = ListingEncoder()
    yield HEADER
    for entry in entries:
        yield encoder.encode(entry)


def decode_listing(pieces: Iterable[Buffer]) -> Iterator[ListingEntry]:
    """The entries of a listing given in pieces. Raises InvalidInput; entries before the error come out first."""
    decoder = ListingDecoder()
    for piece in pieces:
        yield from decoder.feed(piece)
    decoder.finish()
