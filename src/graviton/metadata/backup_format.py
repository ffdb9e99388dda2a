"""The bytes of a metadata backup: one portable format for every metadata store. docs/formats/meta-backup.md.

Header, records in key order, trailer. Everything is length-prefixed; the trailer has the number of records and a
BLAKE3 digest over all bytes before it. Encoding and decoding stream: a record at a time, never the whole file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from graviton.core.hashing import HashAlgo
from graviton.errors import ConfigError, IntegrityError, InvalidInput
from graviton.ports.kv import MAX_KEY_BYTES, check_namespace

__all__ = ["BackupHeader", "Encoder", "Record", "read_backup"]

MAGIC = b"graviton-meta-backup\n"
FORMAT_VERSION = 1
_VERSION = struct.Struct(">HH")  # format version, and its complement: a damaged version is no newer version
_HEADER = struct.Struct(">16sQ")  # store id, created at (UTC nanoseconds)
_RECORD_REST = struct.Struct(">HI")  # after its kind: key bytes, value bytes; then the two
_TRAILER_REST = struct.Struct(">Q32s")  # after its kind: number of records, digest of all bytes before the trailer

_KIND_RECORD = 1
_KIND_NAMESPACE = 2
_KIND_END = 3
_RECORD_KIND = bytes((_KIND_RECORD,))

MAX_VALUE_BYTES = 16 * 1024 * 1024
"""Largest value in a backup. Ours end at 545 KiB (attributes) and 147 KB (a manifest page); a damaged length must not
make the reader allocate 4 GiB."""


class BackupHeader(NamedTuple):
    """What a backup says about itself."""

    store_id: str
    """32 lowercase hex digits; all zeros if the metadata had no marker."""
    created_at_ns: int
    """UTC nanoseconds."""


class Record(NamedTuple):
    """One key and its value."""

    namespace: str
    key: bytes
    value: bytes


class Encoder:
    """Turns a header and records in order into the bytes of a backup, and counts and hashes them on the way."""

    def __init__(self) -> None:
        self._hasher = HashAlgo.BLAKE3.hasher()
        self._namespace = ""
        self.records = 0

    def header(self, header: BackupHeader) -> bytes:
        """The first bytes."""
        version = _VERSION.pack(FORMAT_VERSION, FORMAT_VERSION ^ 0xFFFF)
        return self._hashed(MAGIC + version + _HEADER.pack(bytes.fromhex(header.store_id), header.created_at_ns))

    def record(self, record: Record) -> bytes:
        """The bytes of the next record. Raises InvalidInput for a value no backup can hold."""
        if len(record.value) > MAX_VALUE_BYTES:
            raise InvalidInput(
                f"a value of {len(record.value)} bytes in {record.namespace!r} is too large for a backup",
                subject=record.key[:64].hex(),
            )
        head = b""
        if record.namespace != self._namespace:
            name = record.namespace.encode("ascii")
            head = bytes((_KIND_NAMESPACE, len(name))) + name
            self._namespace = record.namespace
        self.records += 1
        lengths = _RECORD_REST.pack(len(record.key), len(record.value))
        return self._hashed(b"".join((head, _RECORD_KIND, lengths, record.key, record.value)))

    def trailer(self) -> bytes:
        """The last bytes."""
        return bytes((_KIND_END,)) + _TRAILER_REST.pack(self.records, self._hasher.digest().raw)

    def _hashed(self, data: bytes) -> bytes:
        self._hasher.update(data)
        return data


class _Source:
    """Bytes from a `read(n)`, counted and hashed; a short read is damage."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._hasher = HashAlgo.BLAKE3.hasher()
        self.position = 0

    def take(self, count: int) -> bytes:
        data = self.take_trailer(count)
        self._hasher.update(data)
        return data

    def take_trailer(self, count: int) -> bytes:
        """As `take`, but the bytes do not count for the digest."""
        data = self._read(count) if count else b""
        if len(data) != count:
            raise damaged(self.position + len(data), "the file ends in the middle")
        self.position += count
        return data

    def take_kind(self) -> int:
        """The byte that says what comes next."""
        data = self.take_trailer(1)
        if data[0] != _KIND_END:
            self._hasher.update(data)
        return data[0]

    def digest(self) -> bytes:
        return self._hasher.digest().raw


def damaged(position: int, what: str) -> IntegrityError:
    """The error for a damaged backup: `position` is the offset in bytes at which it was noticed."""
    return IntegrityError(
        f"the metadata backup is damaged at byte {position}: {what}",
        operation="meta.restore",
        subject=str(position),
        hint="Use another copy of the backup; nothing was restored from this one.",
    )


def read_backup(read: Callable[[int], bytes]) -> Iterator[BackupHeader | Record]:
    """The header, then every record of the backup behind `read(n)`, which returns n bytes unless the file ends.

    Raises ConfigError for a newer format and IntegrityError, naming the byte, for any damage; after the last record the
    digest has been compared. Records seen before an error prove nothing: read a backup to its end before using it.
    """
    source = _Source(read)
    if source.take(len(MAGIC)) != MAGIC:
        raise damaged(0, "it does not begin as a metadata backup")
    version, complement = _VERSION.unpack(source.take(_VERSION.size))
    if version ^ complement != 0xFFFF or version == 0:
        raise damaged(len(MAGIC), "its format version is none")
    if version > FORMAT_VERSION:
        raise ConfigError(
            f"the metadata backup has format version {version}; this program knows {FORMAT_VERSION}",
            operation="meta.restore",
            hint="Use a newer version of graviton.",
        )
    store_id, created_at_ns = _HEADER.unpack(source.take(_HEADER.size))
    yield BackupHeader(store_id.hex(), created_at_ns)
    yield from _records(source)
    if read(1):
        raise damaged(source.position, "there are bytes after its end")


def _records(source: _Source) -> Iterator[Record]:
    namespace, last_key, count = "", b"", 0
    while True:
        begin = source.position
        kind = source.take_kind()
        if kind == _KIND_END:
            _check_trailer(source, count)
            return
        if kind == _KIND_NAMESPACE:
            namespace, last_key = _namespace(source, namespace), b""
            kind = source.take_kind()
        if kind != _KIND_RECORD or not namespace:
            raise damaged(begin, f"an entry of kind {kind} cannot stand here")
        key_bytes, value_bytes = _RECORD_REST.unpack(source.take(_RECORD_REST.size))
        if not 1 <= key_bytes <= MAX_KEY_BYTES or value_bytes > MAX_VALUE_BYTES:
            raise damaged(begin, f"a record of {key_bytes} and {value_bytes} bytes")
        key = source.take(key_bytes)
        if key <= last_key:
            raise damaged(begin, "keys are not in order")
        last_key, count = key, count + 1
        yield Record(namespace, key, source.take(value_bytes))


def _check_trailer(source: _Source, count: int) -> None:
    at = source.position - 1
    stated, digest = _TRAILER_REST.unpack(source.take_trailer(_TRAILER_REST.size))
    if digest != source.digest():
        raise damaged(at, "the digest over all bytes before does not match")
    if stated != count:
        raise damaged(at, f"it should have {stated} records and has {count}")


def _namespace(source: _Source, last: str) -> str:
    at = source.position
    name = source.take(source.take(1)[0]).decode("ascii", "replace")
    try:
        check_namespace(name)
    except InvalidInput as error:
        raise damaged(at, str(error)) from error
    if name <= last:
        raise damaged(at, "namespaces are not in order")
    return name
