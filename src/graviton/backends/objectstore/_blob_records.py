"""What is kept of whole blobs beside their bytes, and where: names and contents are a stored format, described in
docs/formats/object-layout.md."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from graviton.backends.objectstore._s3_api import S3Api
from graviton.backends.objectstore._transfers import read_object
from graviton.backends.objectstore.requests import Tried
from graviton.concurrency.finishing import side_by_side
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.names import check_name
from graviton.core.paths import check_path
from graviton.errors import ConfigError, IntegrityError, InvalidInput, PreconditionFailed, Unsupported
from graviton.ports.blobs import BlobStat

__all__ = ["BlobNames", "BlobPlace", "BlobRecord", "BlobRecords"]

_FORMAT_VERSION: Final = 1
_MAX_KEY_BYTES: Final = 1024

_AT_ONCE: Final = 16
"""Records that a listing fetches side by side."""


class BlobPlace(NamedTuple):
    """The keys of the objects of one blob."""

    bytes: str
    """The blob itself, nothing else."""
    record: str
    """A blob is there exactly when this is."""
    digests: str
    """Of its pieces, if it has several."""
    note: str
    """Of what may be on its way; see `BlobNotes`."""


class BlobNames:
    """Names below one prefix."""

    def __init__(self, prefix: str) -> None:
        """Raises ConfigError."""
        try:
            check_path(prefix, "prefix of blobs")
        except InvalidInput as error:
            raise ConfigError(str(error), operation="configure", subject="prefix") from error
        self._prefix = prefix

    def place(self, key: BlobKey, domain: str) -> BlobPlace:
        """Where a blob is. Raises InvalidInput for a domain that is none, or too long for the prefix."""
        tail = f"{_domain(domain)}{key.algo.value}/{key.hex}-{key.size}"
        place = BlobPlace(
            f"{self._prefix}/{tail}",
            f"{self._prefix}.records/{tail}",
            f"{self._prefix}.digests/{tail}",
            f"{self._prefix}.notes/{tail}",
        )
        if len(place.record) > _MAX_KEY_BYTES:  # all names are ASCII but for the prefix, which is short
            raise InvalidInput(
                f"the domain makes a key of {len(place.record)} bytes, and S3 takes {_MAX_KEY_BYTES}",
                subject=domain,
                hint="Use a shorter domain or prefix.",
            )
        return place

    def temporary(self, name: str) -> str:
        """Where a blob is whose key is not known yet."""
        return f"{self._prefix}.tmp/{name}"

    def records(self, algo: HashAlgo, domain: str) -> str:
        """What the keys of all records of a domain and algorithm begin with."""
        return f"{self._prefix}.records/{_domain(domain)}{algo.value}/"


def _domain(domain: str) -> str:
    return f"@{quote(check_name(domain), safe='')}/" if domain else ""


def _key_of_record(algo: HashAlgo, name: str) -> BlobKey | None:
    """The key of the blob whose record has this name in the folder of `algo`; None for foreign objects."""
    digest, _, size = name.partition("-")
    try:
        return BlobKey.parse(f"{algo.value}:{digest}:{size}")
    except InvalidInput:
        return None


class BlobRecord(NamedTuple):
    """What is known of one blob."""

    stat: BlobStat
    holders: frozenset[str]

    def merged(self, attributes: BinaryAttributes, holder: str) -> BlobRecord:
        """After another put of the same bytes. What was confirmed before keeps the time of that, so that a put of what
        is there changes nothing."""
        known = self.stat.attributes.confirmed
        fresh = {
            name: one
            for name, one in attributes.confirmed.items()
            if (old := known.get(name)) is None or (old.value, old.source) != (one.value, one.source)
        }
        newer = BinaryAttributes(attributes.advertised, fresh)
        stat = self.stat._replace(attributes=self.stat.attributes.merge(newer))
        return BlobRecord(stat, self.holders | {holder})

    def to_bytes(self) -> bytes:
        """The stored form."""
        fields = {
            "attributes": base64.b64encode(self.stat.attributes.to_bytes()).decode(),
            "blocks": self.stat.blocks,
            "created_at_ns": self.stat.created_at_ns,
            "format_version": _FORMAT_VERSION,
            "holders": sorted(self.holders),
            "key": self.stat.key.text,
        }
        return json.dumps(fields, indent=2, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, key: BlobKey) -> BlobRecord:
        """The record of `key`. Raises IntegrityError for everything else."""
        try:
            fields = json.loads(data)
            return cls._of(fields, key)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise IntegrityError(
                f"the record of blob {key.text} is damaged",
                operation="blobs",
                subject=key.text,
                hint="Its bytes may be whole: put them again after removing the record, or restore it from a version.",
            ) from error

    @classmethod
    def _of(cls, fields: Any, key: BlobKey) -> BlobRecord:
        """Raises what wrong fields lead to."""
        if fields["format_version"] != _FORMAT_VERSION or fields["key"] != key.text:
            raise ValueError("another version, or the record of another blob")
        holders = frozenset(check_name(one, "holder") for one in fields["holders"])
        blocks, created_at_ns = fields["blocks"], fields["created_at_ns"]
        if not holders or type(blocks) is not int or type(created_at_ns) is not int:
            raise ValueError("a field is no number, or nobody holds it")
        attributes = BinaryAttributes.from_bytes(base64.b64decode(fields["attributes"], validate=True))
        return cls(BlobStat(key, blocks, "", created_at_ns, attributes), holders)


class BlobRecords:
    """The records in a bucket."""

    def __init__(self, api: S3Api, names: BlobNames) -> None:
        self._api, self._names = api, names

    async def get(self, place: BlobPlace, key: BlobKey) -> BlobRecord | None:
        """Raises IntegrityError."""
        data = await read_object(self._api, place.record, key.text)
        return None if data is None else BlobRecord.from_bytes(data, key)

    async def create(self, place: BlobPlace, record: BlobRecord, tried: Tried) -> bool:
        """Make one where none is, as far as the server looks at that; so a try that arrives late replaces nothing.
        False if there is another one."""
        subject, data = record.stat.key.text, record.to_bytes()
        try:
            await self._api.put(place.record, subject, memoryview(data), is_new=True, tried=tried)
        except Unsupported:
            await self._api.put(place.record, subject, memoryview(data), tried=tried)
        except PreconditionFailed:  # by a try of ours whose reply was lost?
            return tried.is_open and await read_object(self._api, place.record, subject) == data
        return True

    async def replace(self, place: BlobPlace, record: BlobRecord, tried: Tried) -> None:
        """Write one in place of the one that is there."""
        await self._api.put(place.record, record.stat.key.text, memoryview(record.to_bytes()), tried=tried)

    async def stats(self, prefix: str, after: BlobKey | None, domain: str) -> AsyncGenerator[BlobStat, None]:
        """Blobs whose key text begins with `prefix`, which is one of a key, in their order. Raises IntegrityError for
        damaged records after all others."""
        damaged: list[str] = []
        async for keys in self._batches(prefix, after, domain):
            for stat in await side_by_side(self._stat(key, domain, damaged) for key in keys):
                if stat is not None:
                    yield stat
        if damaged:
            raise IntegrityError(
                f"the records of {len(damaged)} blobs are damaged, the first that of {damaged[0]}",
                operation="blobs.list",
                subject=damaged[0],
            )

    async def _stat(self, key: BlobKey, domain: str, damaged: list[str]) -> BlobStat | None:
        """None if it was deleted meanwhile, and if its record is damaged."""
        try:
            found = await self.get(self._names.place(key, domain), key)
        except IntegrityError:
            damaged.append(key.text)
            return None
        return None if found is None else found.stat

    async def _batches(
        self, prefix: str, after: BlobKey | None, domain: str
    ) -> AsyncGenerator[Sequence[BlobKey], None]:
        batch = []
        async for key in self._keys(prefix, after, domain):
            batch.append(key)
            if len(batch) == _AT_ONCE:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _keys(self, prefix: str, after: BlobKey | None, domain: str) -> AsyncGenerator[BlobKey, None]:
        for algo in sorted(HashAlgo, key=lambda algo: algo.value):
            name, colon, rest = prefix.partition(":")
            if not (algo.value == name if colon else algo.value.startswith(name)):
                continue
            if after is not None and after.algo.value > algo.value:
                continue
            folder = self._names.records(algo, domain)
            start = self._names.place(after, domain).record if after is not None and after.algo is algo else ""
            async for found in self._api.objects(folder + rest.replace(":", "-"), f"blobs {prefix}", start):
                key = _key_of_record(algo, found.key[len(folder) :])
                if key is not None:
                    yield key
