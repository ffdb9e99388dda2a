"""Attributes: the rules of each value, and golden bytes of the stored form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graviton.core.attribute_codec import MAX_CUSTOM, MAX_ENCODED_BYTES
from graviton.core.attributes import (
    CHUNK_COUNT,
    FILE_NAME,
    MIME,
    SIZE,
    AttributeValue,
    BinaryAttributes,
    FieldDiff,
    Stamped,
    custom_name,
    digest_name,
)
from graviton.core.hashing import HashAlgo
from graviton.core.limits import MAX_BLOCK_BYTES, MAX_SIZE
from graviton.errors import InvalidInput

GOLDEN = json.loads(Path(__file__, "../../../golden/attributes.json").resolve().read_text())
T0 = 1_700_000_000_000_000_000
BLAKE3, SHA256 = HashAlgo.BLAKE3.digest(b"hello"), HashAlgo.SHA256.digest(b"hello")
EMPTY = BinaryAttributes.EMPTY

EXAMPLES = {
    "empty": EMPTY,
    "usual": EMPTY.advertise({FILE_NAME: "report-2024.pdf"}, at_ns=T0).confirm(
        {SIZE: 1_234_567, CHUNK_COUNT: 3}, at_ns=T0 + 1
    ),
    "everything": EMPTY.advertise(
        {
            SIZE: MAX_SIZE,
            CHUNK_COUNT: 127,
            MIME: "text/plain; charset=utf-8",
            digest_name(HashAlgo.SHA256): SHA256,
            FILE_NAME: "naïve 文件.txt",
            "user.empty": "",
        },
        source="http:upload",
        at_ns=0,
    )
    .advertise({"user.0": "later"}, source="cli", at_ns=MAX_SIZE)
    .confirm({SIZE: 0, CHUNK_COUNT: 128, digest_name(HashAlgo.BLAKE3): BLAKE3, MIME: "a/b"}, at_ns=T0),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_stored_form_of_version_1_never_changes(name: str) -> None:
    assert EXAMPLES[name].to_bytes().hex() == GOLDEN["accepted"][name]
    assert BinaryAttributes.from_bytes(bytes.fromhex(GOLDEN["accepted"][name])) == EXAMPLES[name]


def test_every_golden_value_is_looked_at() -> None:
    assert set(GOLDEN["accepted"]) == set(EXAMPLES)


@pytest.mark.parametrize("reason", GOLDEN["refused"])
def test_bytes_that_break_one_rule_are_refused_for_that_reason(reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        BinaryAttributes.from_bytes(bytes.fromhex(GOLDEN["refused"][reason]))


def test_the_largest_legal_attributes_are_within_the_bound_and_longer_input_is_refused() -> None:
    def stage(source: str) -> dict[str, Stamped]:
        values: dict[str, AttributeValue] = {f"user.{n:059d}": "\U0010ffff" * 1024 for n in range(MAX_CUSTOM)}
        values |= {SIZE: MAX_SIZE, CHUNK_COUNT: MAX_SIZE, MIME: "a/" + "b" * 254}
        values |= {digest_name(HashAlgo.BLAKE3): BLAKE3, digest_name(HashAlgo.SHA256): SHA256}
        return {
            name: Stamped(value, f"{source}{n:060d}"[:64], MAX_SIZE - n)
            for n, (name, value) in enumerate(values.items())
        }

    largest = BinaryAttributes(stage("adv"), stage("con"))
    encoded = largest.to_bytes()
    assert MAX_ENCODED_BYTES * 0.98 < len(encoded) <= MAX_ENCODED_BYTES
    assert BinaryAttributes.from_bytes(encoded) == largest
    with pytest.raises(InvalidInput, match="more than"):
        BinaryAttributes.from_bytes(b"\x01" + bytes(MAX_ENCODED_BYTES))


def test_readers_prefer_what_is_confirmed() -> None:
    value = EMPTY.advertise({SIZE: 1, CHUNK_COUNT: 1, MIME: "a/b", FILE_NAME: "x"}, at_ns=5)
    assert (value.size, value.chunk_count, value.mime, value.file_name) == (1, 1, "a/b", "x")
    value = value.confirm({SIZE: 2, MIME: "c/d", digest_name(HashAlgo.SHA256): SHA256}, at_ns=4)
    assert (value.size, value.chunk_count, value.mime, value.file_name) == (2, 1, "c/d", "x")
    assert value.digest(HashAlgo.SHA256) == SHA256
    assert value.digest(HashAlgo.BLAKE3) is None
    assert value.digests == {HashAlgo.SHA256: SHA256}
    assert value.custom == {FILE_NAME: "x"}
    assert value.get(SIZE) == Stamped(2, "runtime", 4)
    assert value.advertised[SIZE] == Stamped(1, "client", 5)
    assert EMPTY.size is EMPTY.chunk_count is EMPTY.mime is EMPTY.file_name is None


def test_a_confirmed_zero_is_preferred_too() -> None:
    assert EMPTY.advertise({SIZE: 7}, at_ns=0).confirm({SIZE: 0}, at_ns=0).size == 0


def test_attributes_are_immutable() -> None:
    value = EMPTY.advertise({SIZE: 1}, at_ns=0)
    value.confirm({SIZE: 2}, at_ns=0)
    assert value.size == 1
    with pytest.raises(TypeError):
        value.advertised[SIZE] = Stamped(9, "x", 0)  # type: ignore[index]
    given = {SIZE: Stamped(1, "client", 0)}
    made = BinaryAttributes(given)
    given.clear()
    assert made.size == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (SIZE, -1), (SIZE, MAX_SIZE + 1), (SIZE, True), (SIZE, "1"), (CHUNK_COUNT, -1),
        (MIME, ""), (MIME, "text"), (MIME, "/plain"), (MIME, "text/"), (MIME, " text/plain"), (MIME, "text/plain\n"),
        (MIME, "text/pläin"), (MIME, "a/" + "b" * 255), (MIME, 5),
        (digest_name(HashAlgo.BLAKE3), SHA256), (digest_name(HashAlgo.BLAKE3), "00"),
        ("graviton.digest.md5", "00"), ("graviton.other", 1), ("name", "x"), ("", "x"),
        ("user.", "x"), ("user..a", "x"), ("user.a b", "x"), ("user.é", "x"), ("user." + "a" * 60, "x"),
        ("user.a", "a\x00b"), ("user.a", "\ud800"), ("user.a", "x" * 1025), ("user.a", 1),
    ],
)  # fmt: skip
def test_an_illegal_name_or_value_is_invalid_input_wherever_it_comes_in(name: str, value: AttributeValue) -> None:
    with pytest.raises(InvalidInput) as caught:
        EMPTY.advertise({name: value}, at_ns=0)
    assert caught.value.subject == name[:80]
    with pytest.raises(InvalidInput):
        EMPTY.confirm({name: value}, at_ns=0)
    with pytest.raises(InvalidInput):
        BinaryAttributes({}, {name: Stamped(value, "client", 0)})


@pytest.mark.parametrize(("source", "at_ns"), [("", 0), ("a b", 0), ("é", 0), ("a" * 65, 0), ("a", -1), ("a", 2**63)])
def test_an_illegal_source_or_time_is_invalid_input(source: str, at_ns: int) -> None:
    with pytest.raises(InvalidInput):
        EMPTY.advertise({SIZE: 1}, source=source, at_ns=at_ns)
    with pytest.raises(InvalidInput):
        BinaryAttributes({SIZE: Stamped(1, source, at_ns)})


def test_a_stage_has_a_limited_number_of_custom_attributes() -> None:
    first = EMPTY.advertise({f"user.a{n}": "" for n in range(MAX_CUSTOM)} | {SIZE: 1}, at_ns=0)
    with pytest.raises(InvalidInput, match="at most 64 custom"):
        first.advertise({"user.b": ""}, at_ns=0)
    with pytest.raises(InvalidInput, match="at most 64 custom"):
        first.merge(EMPTY.advertise({"user.b": ""}, at_ns=0))
    assert len(first.confirm({"user.b": ""}, at_ns=0).custom) == MAX_CUSTOM + 1


@pytest.mark.parametrize(
    ("text", "name"), [("a", "user.a"), ("user.a", "user.a"), ("graviton.size", "user.graviton.size")]
)
def test_a_custom_name_gets_its_prefix_once(text: str, name: str) -> None:
    assert custom_name(text) == name


@pytest.mark.parametrize("text", ["", "user.", "-a", "a=b", "a" * 60])
def test_what_cannot_be_a_custom_name_is_invalid_input(text: str) -> None:
    with pytest.raises(InvalidInput, match="bad attribute name"):
        custom_name(text)


@pytest.mark.parametrize(
    ("size", "count", "fits"),
    [
        (0, 0, True), (0, 1, False), (1, 0, False), (1, 1, True), (1, 2, False),
        (MAX_BLOCK_BYTES, 1, True), (MAX_BLOCK_BYTES + 1, 1, False), (MAX_BLOCK_BYTES + 1, 2, True),
    ],
)  # fmt: skip
def test_validate_refuses_a_chunk_count_that_cannot_be(size: int, count: int, fits: bool) -> None:
    values: dict[str, AttributeValue] = {SIZE: size, CHUNK_COUNT: count}
    for value in (EMPTY.advertise(values, at_ns=0), EMPTY.confirm(values, at_ns=0)):
        if fits:
            value.validate()
        else:
            with pytest.raises(InvalidInput, match="does not fit"):
                value.validate()


def test_diff_compares_the_stages() -> None:
    value = EMPTY.advertise({SIZE: 1, CHUNK_COUNT: 1, MIME: "a/b"}, at_ns=0)
    value = value.confirm({SIZE: 2, CHUNK_COUNT: 1, FILE_NAME: "x"}, at_ns=9)
    assert value.diff() == {
        CHUNK_COUNT: FieldDiff.SAME,
        MIME: FieldDiff.ONLY_ADVERTISED,
        SIZE: FieldDiff.DIFFERENT,
        FILE_NAME: FieldDiff.ONLY_CONFIRMED,
    }
