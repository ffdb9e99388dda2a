"""Listings: golden text, and every line that must be refused, with its number."""

from __future__ import annotations

from pathlib import Path

import pytest

from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.listing import (
    HEADER,
    MAX_LINE_BYTES,
    MAX_PATH_BYTES,
    EntryType,
    ListingDecoder,
    ListingEncoder,
    ListingEntry,
    decode_listing,
    encode_listing,
)
from graviton.errors import InvalidInput

GOLDEN = Path(__file__, "../../../golden/listing-v1.txt").resolve()
F, D, L = EntryType.FILE, EntryType.DIRECTORY, EntryType.LINK
HELLO = BlobKey(HashAlgo.SHA256.digest(b"hello"), 5)
NOTHING = BlobKey(HashAlgo.BLAKE3.digest(b""), 0)
T0 = 1_700_000_000_123_456_789

TREE = [
    ListingEntry(F, b" leading and trailing ", 0o644, 0, NOTHING),
    ListingEntry(F, b"-", 0o600, -1, HELLO),
    ListingEntry(F, b"\xff\xfe not UTF-8", 0o644, T0, HELLO),
    ListingEntry(D, b"a", 0o755, T0),
    ListingEntry(D, b"a-b", 0o2755, T0),
    ListingEntry(F, b"a-b/c", 0o4755, T0, HELLO),
    ListingEntry(F, b"a.txt", 0, 2**63 - 1, HELLO),
    ListingEntry(L, b"a/link", 0o777, T0, None, b"../../etc/\tx"),
    ListingEntry(D, b"a/sub", 0o1777, -(2**63)),
    ListingEntry(F, b"a/sub/x", 0o7777, T0, HELLO),
    ListingEntry(F, b"a0", 0o644, T0, HELLO),
    ListingEntry(F, b"back\\slash tab\t line\n return\r bell\x07 del\x7f", 0o644, T0, HELLO),
    ListingEntry(F, "naïve 文件 \u2028 \x85".encode(), 0o644, T0, HELLO),
]
TREE.sort(key=lambda entry: entry.path)


def test_the_text_of_version_1_never_changes() -> None:
    assert b"".join(encode_listing(TREE)) == GOLDEN.read_bytes()
    assert list(decode_listing([GOLDEN.read_bytes()])) == TREE


def test_an_empty_directory_is_the_header_alone() -> None:
    assert list(encode_listing([])) == [HEADER]
    assert list(decode_listing([HEADER])) == []


FILE = f"f\t0644\t0\t5\t{HELLO.text}\t"


@pytest.mark.parametrize(
    ("lines", "where", "why"),
    [
        ("", 1, "ends before"),
        ("graviton-listing 1", 1, "ends before"),
        ("graviton-listing 2\n", 1, "version b'2'"),
        ("graviton-listing 1 \n", 1, "version"),
        ("graviton-listing 1\r\n", 1, "version"),
        ("something else\n", 1, "not a listing"),
        ("\n", 1, "not a listing"),
        (f"@{FILE}a", 2, "ends before"),
        ("@\n", 2, "unknown type"),
        ("@p\t0644\t0\t-\t-\ta\n", 2, "unknown type"),
        ("@d\t0755\t0\t-\t-\n", 2, "5 columns"),
        ("@d\t0755\t0\t-\t-\ta\tb\n", 2, "7 columns"),
        ("@l\t0777\t0\t-\t-\ta\n", 2, "6 columns"),
        ("@l\t0777\t0\t-\t-\ta\t\n", 2, "link target"),
        ("@d\t755\t0\t-\t-\ta\n", 2, "mode"),
        ("@d\t0785\t0\t-\t-\ta\n", 2, "mode"),
        ("@d\t10755\t0\t-\t-\ta\n", 2, "mode"),
        ("@d\t0755\t-0\t-\t-\ta\n", 2, "modification time"),
        ("@d\t0755\t00\t-\t-\ta\n", 2, "modification time"),
        ("@d\t0755\t+1\t-\t-\ta\n", 2, "modification time"),
        ("@d\t0755\t\t-\t-\ta\n", 2, "modification time"),
        ("@d\t0755\t1_0\t-\t-\ta\n", 2, "modification time"),
        ("@d\t0755\t9223372036854775808\t-\t-\ta\n", 2, "64 bits"),
        ("@d\t0755\t0\t5\t-\ta\n", 2, "size"),
        (f"@d\t0755\t0\t5\t{HELLO.text}\ta\n", 2, "has an id"),
        ("@f\t0644\t0\t-\t-\ta\n", 2, "has an id"),
        (f"@f\t0644\t0\t6\t{HELLO.text}\ta\n", 2, "size"),
        (f"@f\t0644\t0\t05\t{HELLO.text}\ta\n", 2, "size"),
        (f"@f\t0644\t0\t5\t{HELLO.text.replace('sha256', 'sha-256')}\ta\n", 2, "canonical"),
        ("@f\t0644\t0\t5\tmd5:00:5\ta\n", 2, "hash algorithm"),
        (f"@{FILE}\n", 2, "path has 1 to"),
        (f"@{FILE}/etc/passwd\n", 2, "absolute"),
        (f"@{FILE}..\n", 2, "segment '..'"),
        (f"@{FILE}.\n", 2, "segment '.'"),
        (f"@d\t0755\t0\t-\t-\ta\n{FILE}a/../b\n", 3, "segment '..'"),
        (f"@d\t0755\t0\t-\t-\ta\n{FILE}a//b\n", 3, "segment ''"),
        (f"@d\t0755\t0\t-\t-\ta\n{FILE}a/\n", 3, "segment ''"),
        (f"@{FILE}\\x2e\\x2e\n", 2, "not escaped as it must be"),
        (f"@{FILE}a\\x00\n", 2, "NUL"),
        (f"@{FILE}a\\\n", 2, "unknown escape"),
        (f"@{FILE}a\\q\n", 2, "unknown escape"),
        (f"@{FILE}a\\x4\n", 2, "unknown escape"),
        (f"@{FILE}a\\xFF\n", 2, "unknown escape"),
        (f"@{FILE}a\\x0a\n", 2, "not escaped as it must be"),
        (f"@{FILE}a\x07\n", 2, "not escaped as it must be"),
        (f"@{FILE}a\r\n", 2, "not escaped as it must be"),
        (f"@{FILE}b\n{FILE}a\n", 3, "out of order"),
        (f"@{FILE}a\n{FILE}a\n", 3, "listed twice"),
        (f"@{FILE}a/b\n", 2, "is not in the listing"),
        (f"@{FILE}a\n{FILE}a/b\n", 3, "is not a directory"),
        (f"@d\t0755\t0\t-\t-\ta\n{FILE}b/c\n", 3, "is not in the listing"),
        (f"@l\t0777\t0\t-\t-\ta\t/etc\n{FILE}a/b\n", 3, "is not a directory"),
        (f"@d\t0755\t0\t-\t-\ta\n{FILE}a/b/c\n", 3, "is not in the listing"),
        (f"@d\t0755\t0\t-\t-\ta\nd\t0755\t0\t-\t-\ta-\n{FILE}a-/x\n{FILE}a/b\n{FILE}a-/y\n", 6, "out of order"),
    ],
)
def test_a_bad_line_is_refused_by_its_number_and_reason(lines: str, where: int, why: str) -> None:
    data = lines.replace("@", HEADER.decode(), 1).encode()
    for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
        with pytest.raises(InvalidInput, match=f"line {where} of the listing: .*{why}"):
            list(decode_listing(pieces))


def test_a_line_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"line 2 .*UTF-8"):
        list(decode_listing([HEADER, FILE.encode() + b"\xff\n"]))


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    decoder = ListingDecoder()
    decoder.feed(HEADER)
    for _ in range(MAX_LINE_BYTES // 1024):
        assert decoder.feed(b"f" * 1024) == []
    with pytest.raises(InvalidInput, match=f"line 2 .* more than {MAX_LINE_BYTES} bytes"):
        decoder.feed(b"f" * 1024)


def test_a_line_that_is_too_long_is_refused_with_its_end_too() -> None:
    with pytest.raises(InvalidInput, match=f"line 2 .* more than {MAX_LINE_BYTES} bytes"):
        list(decode_listing([HEADER + b"f" * MAX_LINE_BYTES + b"\n"]))


def test_the_longest_path_and_target_fit_a_line() -> None:
    path = b"\xff" * MAX_PATH_BYTES
    entry = ListingEntry(L, path, 0o777, -(2**63), None, path)
    assert list(decode_listing(encode_listing([entry]))) == [entry]
    with pytest.raises(InvalidInput, match="4096 bytes"):
        ListingEntry(D, b"a" * (MAX_PATH_BYTES + 1), 0, 0)
    with pytest.raises(InvalidInput, match="4096 bytes"):
        ListingEntry(L, b"a", 0, 0, None, b"a" * (MAX_PATH_BYTES + 1))


def test_an_encoder_refuses_what_a_decoder_would() -> None:
    for entries, why in (
        ([ListingEntry(D, b"b", 0, 0), ListingEntry(D, b"a", 0, 0)], "out of order"),
        ([ListingEntry(D, b"a", 0, 0), ListingEntry(D, b"a", 0, 0)], "twice"),
        ([ListingEntry(F, b"a", 0, 0, HELLO), ListingEntry(D, b"a/b", 0, 0)], "not a directory"),
    ):
        encoder = ListingEncoder()
        encoder.encode(entries[0])
        with pytest.raises(InvalidInput, match=why):
            encoder.encode(entries[1])


@pytest.mark.parametrize(
    "arguments",
    [
        (D, b"a", 0o10000, 0), (D, b"a", -1, 0), (D, b"a", 0, 2**63), (D, b"a", 0, 0, HELLO), (F, b"a", 0, 0),
        (F, b"a", 0, 0, HELLO, b"t"), (L, b"a", 0, 0), (L, b"a", 0, 0, None, b""), (L, b"a", 0, 0, None, b"\x00"),
        (D, b"", 0, 0), (D, b"a\x00", 0, 0), (D, b"/a", 0, 0), (D, b"a/", 0, 0), (D, b"a/./b", 0, 0),
    ],
)  # fmt: skip
def test_an_impossible_entry_is_invalid_input(arguments: tuple[object, ...]) -> None:
    with pytest.raises(InvalidInput):
        ListingEntry(*arguments)  # type: ignore[arg-type]


def test_the_size_of_a_file_is_that_of_its_blob() -> None:
    assert ListingEntry(F, b"a", 0, 0, HELLO).size == 5
    assert ListingEntry(D, b"a", 0, 0).size is None
