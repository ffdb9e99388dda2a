"""JSON of the server as values of ours, strictly: what is missing, or is of another kind, is no answer of a server of
ours and raises Unavailable. Members that this version does not know are passed over.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from graviton.backends.http.errors import shown, strange
from graviton.core.attribute_text import ATTRIBUTES_FIELD, decode_attributes
from graviton.core.attribute_values import DIGEST_PREFIX, Stamped
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.limits import MAX_SIZE
from graviton.core.manifests import ManifestEntry
from graviton.errors import GravitonError, InvalidInput
from graviton.ports.any_store import QuotaUse
from graviton.ports.blobs import BlobStat
from graviton.ports.manifests import StoreTotals

__all__ = [
    "BlobsPage",
    "BlocksPage",
    "PutReport",
    "ServersDefaults",
    "attributes_of",
    "blobs_page",
    "blocks_page",
    "defaults_of",
    "quota_of",
    "report_of",
    "stat_of",
    "totals_of",
]

_T = TypeVar("_T")

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{9})Z", re.ASCII)
"""RFC 3339, as our servers write it: to the nanosecond, in UTC."""

_MAX_DIGITS: Final = 19
"""Of a number; 2**63 has as many."""

_SECOND: Final = 1_000_000_000


class PutReport(NamedTuple):
    """What the server says it has done."""

    key: BlobKey
    blocks: int
    """Of the visible blob."""
    cut_blocks: int
    fresh_blocks: int
    fresh_bytes: int
    repaired_blocks: int
    chunker: str
    created: bool


class ServersDefaults(NamedTuple):
    """What puts get that say nothing; None where the server does not tell."""

    hash: HashAlgo | None = None
    chunker: str | None = None


class BlobsPage(NamedTuple):
    """Some blobs of a listing."""

    stats: list[BlobStat]
    next: BlobKey | None
    """After which one the next page begins; None at the end."""
    unreadable: list[str]
    """More of them, whose metadata is damaged."""


class BlocksPage(NamedTuple):
    """Some blocks of a blob."""

    entries: list[ManifestEntry]
    next: int | None
    """At which byte the next page begins; None at the end."""


class _Object:
    """A JSON object, whose members are asked for by name and kind."""

    def __init__(self, found: Any, operation: str) -> None:
        self._operation = operation
        if not isinstance(found, dict):
            raise self.strange("an object is missing")
        self._found: dict[str, Any] = found

    def strange(self, what: str) -> GravitonError:
        """The error for what is wrong with it."""
        return strange(what, self._operation)

    def get(self, name: str, kind: type[_T]) -> _T:
        """A member of that very kind."""
        value = self._found.get(name)
        if type(value) is not kind:
            raise self.strange(f"its {name} is missing or malformed")
        return value

    def maybe(self, name: str, kind: type[_T]) -> _T | None:
        """The same, or None if it is null or not there."""
        return None if self._found.get(name) is None else self.get(name, kind)

    def count(self, name: str) -> int:
        """A whole number that is not negative."""
        value = self.get(name, int)
        if not 0 <= value <= MAX_SIZE:
            raise self.strange(f"its {name} is malformed")
        return value

    def of(self, name: str) -> _Object:
        """A member that is an object."""
        return _Object(self._found.get(name), self._operation)

    def items(self) -> list[tuple[str, _Object]]:
        """All members, each of which is an object."""
        return [(name, _Object(value, self._operation)) for name, value in self._found.items()]

    def list(self, name: str) -> list[_Object]:
        """A member that is a list of objects."""
        return [_Object(one, self._operation) for one in self.get(name, list)]

    def time(self, name: str) -> int:
        """UTC nanoseconds."""
        found = _TIME.fullmatch(self.get(name, str))
        if found is None:
            raise self.strange(f"its {name} is no time")
        year, month, day, hour, minute, second, rest = map(int, found.groups())
        return calendar.timegm((year, month, day, hour, minute, second)) * _SECOND + rest

    def value(self, name: str) -> Any:
        """A member of whatever kind."""
        return self._found.get(name)


def stat_of(found: Any, operation: str, key: BlobKey | None = None) -> BlobStat:
    """What the server says about a blob; with `key`, about that one. Raises Unavailable."""
    return _checked(operation, lambda: _stat(_Object(found, operation), key))


def _stat(found: _Object, key: BlobKey | None) -> BlobStat:
    said = BlobKey.parse(found.get("id", str))
    if key is not None and said != key:
        raise found.strange("it is about another blob")
    attributes = BinaryAttributes(_stage(found.of("advertised")), _stage(found.of("confirmed")))
    return BlobStat(said, found.count("blocks"), found.get("chunker", str), found.time("created"), attributes)


def _stage(found: _Object) -> dict[str, Stamped]:
    return {
        name: Stamped(_attribute(name, one.value("value")), one.get("source", str), one.time("at"))
        for name, one in found.items()
    }


def _attribute(name: str, value: Any) -> Any:
    """A value as attributes have it; `BinaryAttributes` checks the rest."""
    if name.startswith(DIGEST_PREFIX) and isinstance(value, str):
        algo, _, digits = value.partition(":")
        return Digest.from_hex(HashAlgo.parse(algo), digits)
    return value


def report_of(fields: Mapping[str, str]) -> PutReport:
    """What the headers of an answer say about a put. Raises Unavailable."""

    def read() -> PutReport:
        key = BlobKey.parse(fields.get("X-Graviton-Blob-Id", ""))
        pairs = dict(each.strip().partition("=")[::2] for each in fields.get("X-Graviton-Put", "").split(","))

        def count(name: str) -> int:
            text = pairs.get(name, "")
            if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
                raise strange("it does not say what it did", "put")
            return int(text)

        return PutReport(
            key,
            count("blocks"),
            count("cut-blocks"),
            count("fresh-blocks"),
            count("fresh-bytes"),
            count("repaired-blocks"),
            fields.get("X-Graviton-Chunker", ""),
            bool(count("created")),
        )

    return _checked("put", read)


def attributes_of(fields: Mapping[str, str]) -> BinaryAttributes | None:
    """The attributes that the headers of an answer tell; None if they tell none, because they are too many. Raises
    Unavailable."""
    text = fields.get(ATTRIBUTES_FIELD)
    if text is None:
        return None
    return _checked("attributes", lambda: decode_attributes(text))


def blobs_page(found: Any, prefix: str, after: BlobKey | None) -> BlobsPage:
    """A page of a listing, whose blobs begin with `prefix` and stand after `after`, in order. Raises Unavailable."""

    def page() -> BlobsPage:
        one = _Object(found, "list")
        stats, last = [_stat(each, None) for each in one.list("blobs")], after
        for key in (stat.key for stat in stats):
            if (last is not None and not last < key) or not key.text.startswith(prefix):
                raise one.strange("its blobs are not those that follow")
            last = key
        text = one.maybe("next", str)
        following = None if text is None else BlobKey.parse(text)
        if following is not None and (following == after or (last is not None and following < last)):
            raise one.strange("it would begin again")
        return BlobsPage(stats, following, [shown(str(each)) for each in one.get("unreadable", list)])

    return _checked("list", page)


def blocks_page(found: Any, key: BlobKey, offset: int) -> BlocksPage:
    """A page of a blob's blocks, the first of which stands at `offset`. Raises Unavailable."""

    def page() -> BlocksPage:
        one, at, entries = _Object(found, "blocks"), offset, []
        for each in one.list("blocks"):
            entry = ManifestEntry(each.count("offset"), BlockKey.parse(each.get("key", str)))
            if entry.offset != at:
                raise one.strange("its blocks leave a gap")
            entries.append(entry)
            at = entry.end
        following = one.maybe("next", int)
        if at > key.size or following != (at if at < key.size else None) or (not entries and at < key.size):
            raise one.strange("its blocks are not those of the blob")
        return BlocksPage(entries, following)

    return _checked("blocks", page)


def totals_of(found: Any) -> StoreTotals:
    """The sums of the store. Raises Unavailable."""

    def totals() -> StoreTotals:
        one = _Object(found, "stats")
        return StoreTotals(
            blobs=one.count("blobs"),
            logical_bytes=one.count("logical_bytes"),
            blocks=one.count("unique_blocks"),
            stored_bytes=one.count("stored_bytes"),
        )

    return _checked("stats", totals)


def quota_of(found: Any) -> QuotaUse | None:
    """How much of its quota a server uses; None if it has none, or is older. Raises Unavailable."""

    def quota() -> QuotaUse | None:
        inner = _Object(found, "stats").maybe("quota", dict)
        if inner is None:
            return None
        one = _Object(inner, "stats")
        used = [one.count(name) for name in QuotaUse._fields[:4]]
        return QuotaUse(*used, *(one.maybe(name, int) for name in QuotaUse._fields[4:]))

    return _checked("stats", quota)


def defaults_of(found: Any) -> ServersDefaults:
    """What the server does with a put that says nothing. Raises Unavailable."""

    def defaults() -> ServersDefaults:
        one = _Object(found, "stats")
        name = one.maybe("hash", str)
        return ServersDefaults(None if name is None else HashAlgo.parse(name), one.maybe("chunker", str))

    return _checked("stats", defaults)


def _checked(operation: str, read: Callable[[], _T]) -> _T:
    """What `read` gives; a value of ours that a text cannot be is the server's mistake."""
    try:
        return read()
    except InvalidInput as error:
        raise strange(error.message, operation) from error
