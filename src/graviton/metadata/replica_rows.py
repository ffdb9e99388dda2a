"""The stored rows of the replica index; docs/formats/metadata.md is the written form."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from graviton.core.keys import BlockKey
from graviton.core.locators import Locator
from graviton.errors import IntegrityError, InvalidInput
from graviton.metadata.rows import u64
from graviton.ports.replicas import Replica, ReplicaState

__all__ = [
    "BY_BUCKET",
    "BY_LIVE",
    "BY_VERIFIED",
    "REPLICAS",
    "Copy",
    "bucket_id",
    "check_verified_at",
    "count_id",
    "decode_copy",
    "index_rows",
    "locator_id",
]

REPLICAS = "replicas"
BY_LIVE = "replicas_by_live"
BY_BUCKET = "replicas_by_bucket"
BY_VERIFIED = "replicas_by_verified"

_COPY = struct.Struct(">BBQ")  # row version, state, verified at; then the locator's text
_ROW_VERSION = 1
_ID_BYTES = 16


def locator_id(locator: Locator) -> bytes:
    """16 bytes for a text that may be longer than any key. Only copies of one key could ever collide."""
    return hashlib.blake2b(locator.text.encode(), digest_size=_ID_BYTES).digest()


def bucket_id(bucket: str) -> bytes:
    """16 bytes for a bucket's name; readers compare the name itself too."""
    return hashlib.blake2b(bucket.encode("utf-8", "surrogatepass"), digest_size=_ID_BYTES).digest()


def count_id(count: int) -> bytes:
    """A number of live copies inside a key."""
    return count.to_bytes(4, "big")


def check_verified_at(verified_at_ns: int | None) -> None:
    """Raises InvalidInput unless this is None or a time that can be stored."""
    if verified_at_ns is not None and not 0 <= verified_at_ns < 2**63:
        raise InvalidInput(f"a time is 0 to 2**63 - 1 nanoseconds, not {verified_at_ns}")


class Copy(NamedTuple):
    """Namespace `replicas`, key: block key (41) + locator id (16)."""

    id: bytes
    locator: Locator
    state: ReplicaState
    verified_at_ns: int

    def encode(self) -> bytes:
        """The stored value."""
        return _COPY.pack(_ROW_VERSION, self.state.value, self.verified_at_ns) + self.locator.text.encode()

    def replica(self, key: BlockKey) -> Replica:
        """The copy as the port shows it."""
        return Replica(key, self.locator, self.state, self.verified_at_ns)


def decode_copy(id_: bytes, data: bytes | None) -> Copy:
    """Inverse of `Copy.encode`. Raises IntegrityError, also for None: an index row without its copy."""
    try:
        version, state, verified_at_ns = _COPY.unpack_from(data or b"")
        if data is None or version != _ROW_VERSION:
            raise InvalidInput("unknown row version")
        return Copy(id_, Locator.parse(data[_COPY.size :].decode()), ReplicaState(state), verified_at_ns)
    except (struct.error, ValueError) as error:
        raise IntegrityError(
            f"a metadata row of {REPLICAS!r} is damaged",
            subject=REPLICAS,
            hint="Restore the metadata from a backup (graviton meta restore).",
        ) from error


def index_rows(key: bytes, copies: Sequence[Copy]) -> Iterator[tuple[str, bytes, bytes]]:
    """All rows of one block key as (namespace, key, value): none without copies."""
    if not copies:
        return
    live = 0
    for copy in copies:
        yield REPLICAS, key + copy.id, copy.encode()
        yield BY_BUCKET, bucket_id(copy.locator.bucket) + key + copy.id, b""
        if copy.state is ReplicaState.PRESENT:
            live += 1
            yield BY_VERIFIED, u64(copy.verified_at_ns) + key + copy.id, b""
    yield BY_LIVE, count_id(live) + key, b""
