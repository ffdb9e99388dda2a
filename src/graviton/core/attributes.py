"""What is known about a blob beside its bytes: advertised by the client, confirmed by the runtime.

Every value carries its source and time. Readers prefer what is confirmed. Names and values: attribute_values.py; the
stored form: attribute_codec.py and docs/formats/attributes.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Any, ClassVar

from graviton.core import attribute_codec
from graviton.core._frozen import Frozen, set_field
from graviton.core.attribute_codec import MAX_CUSTOM, check_count
from graviton.core.attribute_values import (
    CHUNK_COUNT,
    CUSTOM_PREFIX,
    FILE_NAME,
    MIME,
    SIZE,
    AttributeValue,
    Stamped,
    check_source,
    check_value,
    custom_name,
    digest_name,
)
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.limits import MAX_BLOCK_BYTES
from graviton.errors import InvalidInput

__all__ = [
    "CHUNK_COUNT",
    "FILE_NAME",
    "MAX_CUSTOM",
    "MIME",
    "SIZE",
    "AttributeValue",
    "BinaryAttributes",
    "FieldDiff",
    "Stamped",
    "custom_name",
    "digest_name",
]


class FieldDiff(Enum):
    """How the two stages of one attribute compare."""

    ONLY_ADVERTISED = "only_advertised"
    ONLY_CONFIRMED = "only_confirmed"
    SAME = "same"
    DIFFERENT = "different"


class BinaryAttributes(Frozen):
    """The attributes of one blob: two stages, each a map from name to `Stamped` value.

    Each value is legal by itself, always: whatever puts one in checks it. `validate` checks that they agree.
    """

    __slots__ = ("_advertised", "_confirmed")
    __match_args__ = ("advertised", "confirmed")
    _advertised: dict[str, Stamped]
    _confirmed: dict[str, Stamped]

    EMPTY: ClassVar[BinaryAttributes]

    def __init__(self, advertised: Mapping[str, Stamped] | None = None, confirmed: Mapping[str, Stamped] | None = None):
        """Raises InvalidInput for an unknown name, a value or stamp out of bounds, too many custom names."""
        for field, values in (("_advertised", dict(advertised or {})), ("_confirmed", dict(confirmed or {}))):
            for name, stamped in values.items():
                check_value(name, stamped.value)
                check_source(stamped.source, stamped.at_ns)
            check_count(values)
            set_field(self, field, values)

    @classmethod
    def _of(cls, advertised: dict[str, Stamped], confirmed: dict[str, Stamped]) -> BinaryAttributes:
        made = cls.__new__(cls)
        set_field(made, "_advertised", advertised)
        set_field(made, "_confirmed", confirmed)
        return made

    # Reading.

    @property
    def advertised(self) -> Mapping[str, Stamped]:
        """What the client said, by attribute name."""
        return MappingProxyType(self._advertised)

    @property
    def confirmed(self) -> Mapping[str, Stamped]:
        """What the runtime verified, by attribute name."""
        return MappingProxyType(self._confirmed)

    def get(self, name: str) -> Stamped | None:
        """The confirmed value of `name`, else the advertised one, else None."""
        return self._confirmed.get(name) or self._advertised.get(name)

    def items(self) -> Iterator[tuple[str, Stamped]]:
        """Every attribute as `get` gives it, in the order of the names."""
        both = self._advertised | self._confirmed
        return ((name, both[name]) for name in sorted(both))

    @property
    def size(self) -> int | None:
        """Bytes of the blob."""
        return _number(self.get(SIZE))

    @property
    def chunk_count(self) -> int | None:
        """Blocks of the blob, each occurrence counted."""
        return _number(self.get(CHUNK_COUNT))

    @property
    def mime(self) -> str | None:
        """MIME type."""
        return _text(self.get(MIME))

    @property
    def file_name(self) -> str | None:
        """The `user.name`."""
        return _text(self.get(FILE_NAME))

    def digest(self, algo: HashAlgo) -> Digest | None:
        """Digest of the whole blob by `algo`."""
        stamped = self.get(digest_name(algo))
        return stamped.value if stamped is not None and isinstance(stamped.value, Digest) else None

    @property
    def digests(self) -> dict[HashAlgo, Digest]:
        """All known digests of the whole blob."""
        return {algo: digest for algo in HashAlgo if (digest := self.digest(algo)) is not None}

    @property
    def custom(self) -> dict[str, str]:
        """All custom attributes by their full name, in its order."""
        return {name: str(item.value) for name, item in self.items() if name.startswith(CUSTOM_PREFIX)}

    # Changing: every method returns a new value.

    def advertise(
        self, values: Mapping[str, AttributeValue], *, at_ns: int, source: str = "client"
    ) -> BinaryAttributes:
        """With these values advertised, each in place of an earlier one of its name.

        `at_ns` is nanoseconds since 1970 UTC. Raises InvalidInput as `__init__`.
        """
        return BinaryAttributes._of(_with(self._advertised, values, source, at_ns), self._confirmed)

    def confirm(self, values: Mapping[str, AttributeValue], *, at_ns: int, source: str = "runtime") -> BinaryAttributes:
        """With these values confirmed, each in place of an earlier one of its name. Raises InvalidInput."""
        return BinaryAttributes._of(self._advertised, _with(self._confirmed, values, source, at_ns))

    def merge(self, newer: BinaryAttributes) -> BinaryAttributes:
        """Both together; within a stage the value of `newer` wins, whatever the times say: clocks decide nothing.

        Raises InvalidInput if that makes more than MAX_CUSTOM custom attributes in a stage.
        """
        advertised, confirmed = self._advertised | newer._advertised, self._confirmed | newer._confirmed
        check_count(advertised)
        check_count(confirmed)
        return BinaryAttributes._of(advertised, confirmed)

    # Checking.

    def diff(self) -> dict[str, FieldDiff]:
        """For every attribute, in the order of the names, how its two stages compare (values only, not stamps)."""
        return {name: self._compare(name) for name, _ in self.items()}

    def _compare(self, name: str) -> FieldDiff:
        advertised, confirmed = self._advertised.get(name), self._confirmed.get(name)
        if confirmed is None:
            return FieldDiff.ONLY_ADVERTISED
        if advertised is None:
            return FieldDiff.ONLY_CONFIRMED
        return FieldDiff.SAME if advertised.value == confirmed.value else FieldDiff.DIFFERENT

    def validate(self) -> None:
        """Raises InvalidInput if the values of a stage cannot all be true: a chunk count that does not fit the size.

        A confirmed value that differs from the advertised one is not malformed: `diff` tells it, and what to do about
        it is for the store.
        """
        for stage, values in (("advertised", self._advertised), ("confirmed", self._confirmed)):
            size, count = _number(values.get(SIZE)), _number(values.get(CHUNK_COUNT))
            if size is None or count is None:
                continue
            fewest = -(-size // MAX_BLOCK_BYTES)
            if not fewest <= count <= size:
                raise InvalidInput(
                    f"{stage} chunk count {count} does not fit the {stage} size of {size} bytes:"
                    f" blocks have 1 to {MAX_BLOCK_BYTES} bytes",
                    subject=CHUNK_COUNT,
                )

    # Stored form.

    def to_bytes(self) -> bytes:
        """Canonical bytes: equal attributes have equal bytes."""
        return attribute_codec.encode(self._advertised, self._confirmed)

    @classmethod
    def from_bytes(cls, data: bytes) -> BinaryAttributes:
        """Inverse of `to_bytes`; accepts nothing else. Raises InvalidInput."""
        return cls._of(*attribute_codec.decode(data))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, BinaryAttributes)
            and self._advertised == other._advertised
            and self._confirmed == other._confirmed
        )

    def __hash__(self) -> int:
        return hash((frozenset(self._advertised.items()), frozenset(self._confirmed.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return BinaryAttributes, (self._advertised, self._confirmed)

    def __repr__(self) -> str:
        return f"BinaryAttributes(advertised={self._advertised!r}, confirmed={self._confirmed!r})"


def _number(stamped: Stamped | None) -> int | None:
    return stamped.value if stamped is not None and isinstance(stamped.value, int) else None


def _text(stamped: Stamped | None) -> str | None:
    return stamped.value if stamped is not None and isinstance(stamped.value, str) else None


def _with(old: dict[str, Stamped], values: Mapping[str, AttributeValue], source: str, at_ns: int) -> dict[str, Stamped]:
    check_source(source, at_ns)
    new = dict(old)
    for name, value in values.items():
        check_value(name, value)
        new[name] = Stamped(value, source, at_ns)
    check_count(new)
    return new


BinaryAttributes.EMPTY = BinaryAttributes()
