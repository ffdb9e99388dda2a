"""Shortened ids: exactly the texts that begin a key text are accepted, and cover its key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import InvalidInput
from graviton.metadata.key_prefix import blob_key_prefix

keys = st.builds(
    lambda algo, raw, size: BlobKey(Digest(algo, raw), size),
    st.sampled_from(HashAlgo),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**63 - 1),
)


@given(keys, st.data())
def test_every_beginning_of_a_key_text_covers_the_key(key: BlobKey, data: st.DataObject) -> None:
    text = key.text[: data.draw(st.integers(0, len(key.text)))]
    found = blob_key_prefix(text)
    assert found.text == text
    assert found.binary == sorted(found.binary)
    assert any(key.to_bytes().startswith(binary) for binary in found.binary)


@given(keys, st.integers(0, 64), st.integers(0, 63), st.integers(1, 15))
def test_no_key_of_another_digest_is_covered(key: BlobKey, digits: int, place: int, change: int) -> None:
    """A listing of what begins with one digit must not read all there is."""
    text = f"{key.algo.value}:{key.hex[:digits]}"
    raw = bytearray(key.digest.raw)
    raw[place // 2] ^= change if place % 2 else change << 4
    other = BlobKey(Digest(key.algo, bytes(raw)), key.size)
    covered = any(other.to_bytes().startswith(binary) for binary in blob_key_prefix(text).binary)
    assert covered == other.text.startswith(text) == (place >= digits)


@given(keys, st.integers(0, 64))
def test_the_other_name_of_sha256_means_the_same(key: BlobKey, digits: int) -> None:
    assert blob_key_prefix("sha-256:" + key.hex[:digits]) == blob_key_prefix("sha256:" + key.hex[:digits])


HEX = "ab" * 32


@pytest.mark.parametrize(
    "text",
    [
        "x", "md5:", "blake3:g", "blake3:AB", "blake3::", "blake3:ab:", f"blake3:{HEX}a", f"blake3:{HEX}:x",
        f"blake3:{HEX}:01", f"blake3:{HEX}:1:", f"blake3:{HEX}:-1", f"blake3:{HEX}:٣", f"blake3:{HEX}:{'1' * 20}",
        " ", ":", "sha-256", "blake3 ",
    ],
)  # fmt: skip
def test_what_begins_no_key_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        blob_key_prefix(text)
