"""`SchemaStore` over a transactional key-value store.

`put_schema` and `register_builtin_schemas` are transaction functions, so that a new store gets its marker and the
description of its formats in one step.
"""

from __future__ import annotations

import re
import struct

from graviton.core.clock import Clock, SystemClock
from graviton.errors import IntegrityError, InvalidInput, NotFound
from graviton.metadata.builtin_schemas import BUILTIN_SCHEMAS
from graviton.metadata.rows import SCHEMA_NAMES, SCHEMAS
from graviton.ports.kv import KeyValueStore, ReadTransaction, Transaction
from graviton.ports.schemas import MAX_SCHEMA_BYTES, Schema, SchemaStore

__all__ = ["KvSchemaStore", "put_schema", "register_builtin_schemas"]

_NAME = re.compile(r"[a-z][a-z0-9._-]{0,63}", re.ASCII)
_VERSION = struct.Struct(">I")
_HEAD = struct.Struct(">BQ")  # row version, created at (UTC nanoseconds); then the body
_ROW_VERSION = 1


class KvSchemaStore(SchemaStore):
    """Versioned schemas; see the port for the laws."""

    def __init__(self, kv: KeyValueStore, clock: Clock | None = None) -> None:
        self._kv = kv
        self._clock = clock or SystemClock()

    async def put(self, name: str, body: bytes) -> Schema:
        _check(name)
        if not 1 <= len(body) <= MAX_SCHEMA_BYTES:
            raise InvalidInput(f"a schema has 1 to {MAX_SCHEMA_BYTES} bytes, not {len(body)}", subject=name)
        now_ns, kept = self._clock.now_ns(), bytes(body)
        return await self._kv.transact(lambda tx: put_schema(tx, name, kept, now_ns))

    async def get(self, name: str, version: int | None = None) -> Schema:
        _check(name)

        def run(tx: ReadTransaction) -> Schema | None:
            newest = _newest(tx, name)
            wanted = newest if version is None else version
            return _load(tx, name, wanted) if 1 <= wanted <= newest else None

        schema = await self._kv.read(run)
        if schema is None:
            what = name if version is None else f"{name} version {version}"
            raise NotFound(f"there is no schema {what}", operation="schemas.get", subject=name)
        return schema

    async def versions(self, name: str) -> list[int]:
        _check(name)
        return list(range(1, await self._kv.read(lambda tx: _newest(tx, name)) + 1))

    async def names(self) -> list[str]:
        return [key.decode("ascii") async for key, _ in self._kv.scan(SCHEMA_NAMES)]


def put_schema(tx: Transaction, name: str, body: bytes, now_ns: int) -> Schema:
    """Append a version, or return the newest if it is `body` already."""
    newest = _newest(tx, name)
    if newest:
        schema = _load(tx, name, newest)
        if schema.body == body:
            return schema
    version = newest + 1
    tx.put(SCHEMAS, _key(name, version), _HEAD.pack(_ROW_VERSION, now_ns) + body)
    tx.put(SCHEMA_NAMES, name.encode("ascii"), _VERSION.pack(version))
    return Schema(name, version, body, now_ns)


def register_builtin_schemas(tx: Transaction, now_ns: int) -> None:
    """Register the formats this program writes. A store that has them already is left as it is."""
    for name, body in BUILTIN_SCHEMAS.items():
        put_schema(tx, name, body, now_ns)


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"a schema name is a small letter and up to 63 of a-z 0-9 . _ -, not {name[:80]!r}", subject=name[:80]
        )


def _key(name: str, version: int) -> bytes:
    return name.encode("ascii") + b"\x00" + _VERSION.pack(version)


def _newest(tx: ReadTransaction, name: str) -> int:
    """The newest version; 0 for an unknown name."""
    data = tx.get(SCHEMA_NAMES, name.encode("ascii"))
    if data is None:
        return 0
    if len(data) != _VERSION.size:
        raise _damaged(name)
    version: int = _VERSION.unpack(data)[0]
    return version


def _load(tx: ReadTransaction, name: str, version: int) -> Schema:
    data = tx.get(SCHEMAS, _key(name, version))
    if data is None or len(data) <= _HEAD.size:
        raise _damaged(name)
    row_version, created_at_ns = _HEAD.unpack_from(data)
    if row_version != _ROW_VERSION:
        raise _damaged(name)
    return Schema(name, version, data[_HEAD.size :], created_at_ns)


def _damaged(name: str) -> IntegrityError:
    return IntegrityError(
        f"a row of schema {name} is damaged",
        operation="schemas.get",
        subject=name,
        hint="Restore the metadata from a backup (graviton meta restore).",
    )
