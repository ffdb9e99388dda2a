"""The headers of tus: what is legal is understood, everything else is one typed error, quickly."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graviton.core.limits import MAX_SIZE
from graviton.core.ranges import Span
from graviton.errors import InvalidInput, LimitExceeded, PreconditionFailed
from graviton.server.http import tus
from graviton.services.uploads import Checksum, ChecksumAlgo, UploadId

ONE, OTHER = UploadId("0" * 32), UploadId("f" * 31 + "a")

NAMES = st.text(
    st.sampled_from(string.ascii_letters + string.digits + string.punctuation.replace(",", "")), min_size=1, max_size=20
)


def metadata_text(pairs: dict[str, bytes]) -> str:
    return ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in pairs.items())


@given(st.dictionaries(NAMES, st.binary(max_size=40), max_size=8))
def test_metadata_round_trips(pairs: dict[str, bytes]) -> None:
    assert tus.metadata_of(metadata_text(pairs)) == pairs


def test_metadata_may_have_no_value_and_blanks_after_commas() -> None:
    assert tus.metadata_of("secret, filename d29ybGQ=") == {"secret": b"", "filename": b"world"}


@pytest.mark.parametrize("text", ["a b c", "a ä", ",", "a YQ==,a YQ==", "a YQ", "a,,b", "ä YQ==", "x" * 20_000])
def test_malformed_metadata_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="Upload-Metadata"):
        tus.metadata_of(text)


def test_clients_names_become_attributes_and_a_path_becomes_a_name() -> None:
    given = {
        "filename": b"C:\\docs\\a.txt",
        "filetype": b"text/plain",
        "album": b"summer",
        "raw": b"\xff",
        "type": b"\n",
    }
    assert tus.attributes_of(given) == {"user.name": "a.txt", "graviton.mime": "text/plain", "user.album": "summer"}


@pytest.mark.parametrize("algo", list(ChecksumAlgo))
def test_a_checksum_of_every_algorithm_is_understood(algo: ChecksumAlgo) -> None:
    raw = bytes(range(algo.digest_bytes))
    assert tus.checksum_of(f"{algo.value} {base64.b64encode(raw).decode()}") == Checksum(algo, raw)


@pytest.mark.parametrize("text", ["", "sha1", "sha1 ", "crc99 AAAA", "sha1 AAAA", "sha1 ???", "SHA1 AAAA"])
def test_malformed_checksums_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        tus.checksum_of(text)


def test_pieces_are_found_by_path_whatever_the_host_is_called() -> None:
    text = f"final;/api/uploads/{ONE} https://example.org/store/api/uploads/{OTHER}"
    assert tus.concat_of(text) == tus.Concat((ONE, OTHER))
    assert tus.concat_of("partial") == tus.Concat(None)


@pytest.mark.parametrize("made_of", [(), (ONE,), (ONE, OTHER, ONE)])
def test_what_is_told_of_a_concatenation_is_understood_again(made_of: tuple[UploadId, ...]) -> None:
    text = tus.concat_text(not made_of, made_of)
    assert text is not None
    assert tus.concat_of(text).final_of == (made_of or None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "final",
        "final;",
        "partial;x",
        f"final;{ONE}",
        f"final;/api/blobs/{ONE}",
        "final;/api/uploads/..",
        "final;//[",
    ],
)
def test_malformed_concatenations_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        tus.concat_of(text)


def test_a_concatenation_of_too_many_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        tus.concat_of("final;" + f"/api/uploads/{ONE} " * 1001)


@given(st.integers(0, MAX_SIZE - 1), st.integers(0, MAX_SIZE - 1), st.none() | st.integers(0, MAX_SIZE))
def test_a_part_lies_within_the_whole(first: int, last: int, total: int | None) -> None:
    text = f"bytes {first}-{last}/{'*' if total is None else total}"
    if first <= last and (total is None or last < total):
        assert tus.part_of(text) == (Span(first, last + 1), total)
    else:
        with pytest.raises(InvalidInput):
            tus.part_of(text)


@pytest.mark.parametrize("text", ["bytes */10", "bytes 0-1", "bits 0-1/2", "bytes 0-1/2,3-4/5", "bytes=0-1/2", ""])
def test_malformed_parts_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        tus.part_of(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "٣", " 1", str(MAX_SIZE + 1), "9" * 5000])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="Upload-Length"):
        tus.length_of("Upload-Length", text)


def test_only_our_version_is_spoken() -> None:
    tus.check_version(None)
    tus.check_version("1.0.0")
    with pytest.raises(PreconditionFailed):
        tus.check_version("0.2.2")


@given(st.text(st.characters(max_codepoint=255), max_size=200))
@example("final;http://[")
def test_nothing_but_typed_errors_comes_of_any_text(text: str) -> None:
    for parse in (tus.metadata_of, tus.checksum_of, tus.concat_of, tus.part_of, tus.check_version):
        try:
            parse(text)
        except (InvalidInput, LimitExceeded, PreconditionFailed):
            pass
