"""Whether the write-ahead logs hold all that was written to them, as far as the logs themselves can tell.

RocksDB checks what it reads, but takes for the end of a log whatever a crash could have left there, and much that none
could: a record whose damaged length points past the end of the file, a header of zeros with sound records behind it, a
header of a kind that is not in use, an older log that was cut short. It opens, and removes the log. So this walk comes
first. It reads the headers of all records (docs/formats/rocksdb-key-value.md says what they look like), and checksums
only where a log ends within a record; whatever lies whole in its place is left to RocksDB's own check.

What no damage can imitate is the order: each batch says the number of its first change and how many there are, and the
next batch, also of the next log, goes on from there.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from graviton.backends.rocksdb.errors import damaged
from graviton.errors import IntegrityError

__all__ = ["Changes", "check_logs", "log_names"]

_OPERATION: Final = "metadata.open"
_LOG: Final = re.compile(r"\d{6,}\.log")

BLOCK: Final = 32 * 1024
"""No record crosses a multiple of it: what is longer is written in parts."""
HEADER: Final = struct.Struct("<IHB")
"""Masked CRC-32C of all that follows the length, length without the header, kind."""
_BATCH: Final = struct.Struct("<QI")
"""What every batch begins with: the number of its first change, and how many there are."""
_RECORD: Final = struct.Struct("<IHBQI")
"""Both, where they lie in one part."""
_PAD: Final = bytes(_BATCH.size)
"""Behind each block, so that `_RECORD` may be read wherever a header fits."""
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_IGNORED: Final = 0x80
"""The bit of kinds that a version of RocksDB that does not know them may skip."""
_READ_BYTES: Final = 1024 * 1024


class Changes(NamedTuple):
    """Numbers of the changes that logs hold."""

    first: int
    behind: int


def log_names(folder: str) -> list[str]:
    """The logs in `folder`, oldest first. Raises OSError."""
    return sorted((name for name in os.listdir(folder) if _LOG.fullmatch(name)), key=lambda name: int(name[:-4]))


def check_logs(folder: str, path: str) -> Changes | None:
    """The changes in the logs of the store at `path`, whose files are found in `folder`; None if there are none. Raises
    IntegrityError, which names the log, where changes are missing; and OSError."""
    names = log_names(folder)
    if not names:
        raise damaged(path, _OPERATION, "it has no log, and there always is one, if an empty one")
    found: Changes | None = None
    later = ""
    for name in reversed(names):  # the newest first: what is older is not written any more, also of a store in use
        with open(os.path.join(folder, name), "rb") as file:
            walk = _Walk(file, name, path)
            walk.run()
        if walk.first is None:
            continue
        if found is not None and walk.behind < found.first:
            raise damaged(
                path,
                _OPERATION,
                f"changes {walk.behind} to {found.first - 1} are missing between {name} and {later}: the end of the"
                " one, or a log between them",
            )
        found = Changes(walk.first, walk.behind if found is None else max(walk.behind, found.behind))
        later = name
    return found


class _Walk:
    """Over the records of one log."""

    def __init__(self, file: BinaryIO, name: str, path: str) -> None:
        self.first: int | None = None
        """The first change, if there is one."""
        self.behind = -1
        """The number after that of the last change."""
        self._file = file
        self._name = name
        self._path = path
        self._head: bytes | None = None
        """Of a batch that is written in parts: its beginning."""

    def run(self) -> None:
        """Raises IntegrityError."""
        size = os.fstat(self._file.fileno()).st_size  # what is appended from now on belongs to a later moment
        start = 0
        for block in _blocks(self._file, size):
            end = self._whole_records(block)
            if end is not None:
                if self._is_torn(block, end):
                    return
                raise self._damaged(start + end)
            start += BLOCK

    def _whole_records(self, block: bytes) -> int | None:
        """Go over the records of `block`; where there is none that is whole and may be there, None at its end."""
        at, size = 0, len(block)
        padded = block + _PAD
        read, header, batch = _RECORD.unpack_from, HEADER.size, _BATCH.size
        behind = self.behind
        while size - at >= header:
            _, length, kind, sequence, count = read(padded, at)
            end = at + header + length
            if end > size:
                break
            if kind == _WHOLE and length >= batch and self._head is None:  # most are, and this loop is what costs
                if sequence != behind:
                    self._follow(sequence, count, at)
                if count:
                    behind = self.behind = sequence + count
            elif not self._take_part(kind, block, at, end):
                break
            else:
                behind = self.behind
            at = end
        return None if at == size or (size == BLOCK and size - at < header) else at

    def _take_part(self, kind: int, block: bytes, at: int, end: int) -> bool:
        """Take a part of a batch, or what is no batch; whether it may be there."""
        if kind & _IGNORED:
            return True
        if not _is_legal(kind, at, end, self._head is not None):
            return False
        self._head = (self._head or b"")[: _BATCH.size] + block[at + HEADER.size : min(end, at + _RECORD.size)]
        if kind in (_WHOLE, _LAST):
            head, self._head = self._head, None
            if len(head) < _BATCH.size:
                return False
            sequence, count = _BATCH.unpack_from(head)
            self._follow(sequence, count, at)
            if count:
                self.behind = sequence + count
        return True

    def _follow(self, sequence: int, count: int, at: int) -> None:
        """A batch comes next. An empty one, with which RocksDB begins a log after a recovery, has no number of its
        own."""
        if not count:
            return
        if self.first is None:
            self.first = sequence
        elif sequence > self.behind:
            raise damaged(
                self._path,
                _OPERATION,
                f"changes {self.behind} to {sequence - 1} are missing in {self._name}, in the block of byte {at}",
            )

    def _is_torn(self, block: bytes, at: int) -> bool:
        """Whether a crash may have left what begins at `at`: a record that is cut short, and zeros."""
        rest = block[at:]
        written = rest.rstrip(b"\x00")
        if any(chunk.count(0) != len(chunk) for chunk in iter(lambda: self._file.read(_READ_BYTES), b"")):
            return False
        if len(written) < HEADER.size:
            return True
        crc, length, kind = HEADER.unpack_from(rest)
        end = at + HEADER.size + length
        if end <= len(block) or not _is_legal(kind, at, end, self._head is not None):
            return False
        # The length may be what is damaged: then the record is there, or the next.
        lengths = {length ^ 1 << bit for bit in range(16)} | {len(rest) - HEADER.size, len(written) - HEADER.size}
        return not (_fits(crc, rest, lengths) or any(_records(rest, self.behind)))

    def _damaged(self, at: int) -> IntegrityError:
        return damaged(self._path, _OPERATION, f"a record of {self._name} is, at byte {at}")


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first `size` bytes, of which the last block may be shorter."""
    while size > 0:
        block = file.read(min(BLOCK, size))
        if not block:
            return
        yield block
        size -= len(block)


def _is_legal(kind: int, at: int, end: int, is_within: bool) -> bool:
    """Whether RocksDB writes such a part from `at` to `end` in its block; `is_within`: a batch has begun."""
    if end > BLOCK or is_within != (kind in (_MIDDLE, _LAST)):
        return False
    if kind in (_FIRST, _MIDDLE) and end != BLOCK:  # it goes on in the next block because this one is full
        return False
    return kind in (_WHOLE, _FIRST) or (kind in (_MIDDLE, _LAST) and at == 0)


def _records(rest: bytes, behind: int) -> Iterator[int]:
    """Where in `rest`, but at its beginning, a batch begins that is sound and newer than what was read so far."""
    for at in range(1, len(rest) - _RECORD.size):
        kind = rest[at + 6]
        if kind not in (_WHOLE, _FIRST):
            continue
        crc, length, _, sequence, count = _RECORD.unpack_from(rest, at)
        if sequence >= behind and sequence >> _SEQUENCE_BITS == 0 and count and _fits(crc, rest[at:], {length}):
            yield at


_SEQUENCE_BITS: Final = 56
"""The largest number of a change has so many."""


def _fits(crc: int, record: bytes, lengths: set[int]) -> bool:
    """Whether the checksum is that of the record with one of these lengths."""
    longest = max((length for length in lengths if 0 < length <= len(record) - HEADER.size), default=0)
    sum_ = 0xFFFFFFFF
    table = _CRC_TABLE
    for done, byte in enumerate(record[HEADER.size - 1 : HEADER.size + longest]):  # from the kind on
        sum_ = table[(sum_ ^ byte) & 0xFF] ^ (sum_ >> 8)
        if done in lengths and done and masked(sum_ ^ 0xFFFFFFFF) == crc:
            return True
    return False


def masked(crc: int) -> int:
    """As logs store a checksum: that of data which holds checksums would else be weak."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC_TABLE: Final = _crc_table()
"""Of CRC-32C (Castagnoli), byte by byte: some 10 MB/s, which the end of a log can have."""
