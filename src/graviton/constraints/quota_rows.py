"""The stored rows of the quota's books. docs/formats/quota.md is the written form."""

from __future__ import annotations

import struct
from typing import NamedTuple

from graviton.core.keys import BlobKey
from graviton.core.names import decode_name, encode_name
from graviton.errors import IntegrityError, InvalidInput

__all__ = [
    "ALL",
    "HELD",
    "HELD_ROW",
    "RESERVATIONS",
    "SUMS",
    "Amount",
    "ReservationRow",
    "SumsRow",
    "held_key",
    "reservation_key",
    "sums_key",
]

HELD = "quota_held"
SUMS = "quota_sums"
RESERVATIONS = "quota_reservations"

ALL = b"\x01"
"""Key in `quota_sums` of the sums over all holders."""

MAX_ID_BYTES = 128

_ROW_VERSION = 1
_SUMS = struct.Struct(">Bqqqq")  # row version, bytes, blobs, reserved bytes, reserved blobs
_RESERVATION = struct.Struct(">BQQQI")  # row version, expires at, lifetime, bytes, blobs
_KEY_BYTES = 41

HELD_ROW = bytes((_ROW_VERSION,))
"""The value of every row of `quota_held`."""


class Amount(NamedTuple):
    """Bytes and blobs."""

    bytes: int
    blobs: int


class SumsRow(NamedTuple):
    """Namespace `quota_sums`: of one holder, or of all. Signed, so that a sum that was wrong stays wrong by as much."""

    held_bytes: int = 0
    """Sizes of the blobs held; 0 in the row of all, for the store's totals tell that."""
    held_blobs: int = 0
    reserved_bytes: int = 0
    reserved_blobs: int = 0

    def encode(self) -> bytes:
        """The stored value."""
        return _SUMS.pack(_ROW_VERSION, *self)

    @classmethod
    def decode(cls, data: bytes) -> SumsRow:
        """Inverse of `encode`."""
        try:
            version, *numbers = _SUMS.unpack(data)
        except struct.error as error:
            raise _damaged(SUMS) from error
        _check_version(version, SUMS)
        return cls(*numbers)

    def held(self, more: Amount) -> SumsRow:
        """With more (or less) held."""
        return self._replace(held_bytes=self.held_bytes + more.bytes, held_blobs=self.held_blobs + more.blobs)

    def reserved(self, more: Amount) -> SumsRow:
        """With more (or less) reserved."""
        return self._replace(
            reserved_bytes=self.reserved_bytes + more.bytes, reserved_blobs=self.reserved_blobs + more.blobs
        )


class ReservationRow(NamedTuple):
    """Namespace `quota_reservations`, key: the id in UTF-8."""

    holder: str
    domain: str
    amount: Amount
    lifetime_ns: int
    expires_at_ns: int
    keys: tuple[BlobKey, ...] = ()
    """Blobs of which this holder's holding is about to change, or may have changed."""

    @property
    def names_all(self) -> bool:
        """Whether the blobs that are about to be committed are named, and nothing else is reserved."""
        return bool(self.keys) and self.amount == (sum(key.size for key in self.keys), len(self.keys))

    def encode(self) -> bytes:
        """The stored value."""
        return b"".join(
            (
                _RESERVATION.pack(_ROW_VERSION, self.expires_at_ns, self.lifetime_ns, *self.amount),
                encode_name(self.domain),
                encode_name(self.holder, "holder"),
                *(key.to_bytes() for key in self.keys),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> ReservationRow:
        """Inverse of `encode`."""
        try:
            version, expires, lifetime, size, blobs = _RESERVATION.unpack_from(data)
            _check_version(version, RESERVATIONS)
            domain, at = decode_name(data, _RESERVATION.size)
            holder, at = decode_name(data, at)
            keys = tuple(
                BlobKey.from_bytes(data[start : start + _KEY_BYTES]) for start in range(at, len(data), _KEY_BYTES)
            )
        except (struct.error, InvalidInput) as error:
            raise _damaged(RESERVATIONS) from error
        return cls(holder, domain, Amount(size, blobs), lifetime, expires, keys)


def held_key(holder: str, domain: str, key: BlobKey) -> bytes:
    """Key of the row that says that the holder holds the blob."""
    return encode_name(holder, "holder") + encode_name(domain) + key.to_bytes()


def sums_key(holder: str) -> bytes:
    """Key of the sums of a holder."""
    return b"\x02" + encode_name(holder, "holder")


def reservation_key(id: str) -> bytes:
    """Key of a reservation. Raises InvalidInput for an id that cannot be one."""
    try:
        key = id.encode()
    except UnicodeEncodeError:
        key = b""
    if not 1 <= len(key) <= MAX_ID_BYTES:
        raise InvalidInput(f"the id of a reservation has 1 to {MAX_ID_BYTES} bytes of UTF-8", subject=id[:40])
    return key


def _check_version(version: int, namespace: str) -> None:
    if version != _ROW_VERSION:
        raise IntegrityError(
            f"a row of {namespace!r} has format {version}; this program reads {_ROW_VERSION}",
            subject=namespace,
            hint="Use a newer version of this program.",
        )


def _damaged(namespace: str) -> IntegrityError:
    return IntegrityError(
        f"a row of the quota's books ({namespace!r}) is damaged",
        subject=namespace,
        hint="Restore the metadata from a backup (graviton meta restore).",
    )
