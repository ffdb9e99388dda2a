from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.core.hashing import Digest, HashAlgo
from graviton.errors import InvalidInput
from graviton.server.http.digests import claimed_digest, digest_field

DIGEST = HashAlgo.SHA256.digest(b"hello")
GOOD = digest_field(DIGEST)


@pytest.mark.parametrize(
    "header",
    [
        GOOD,
        f"  {GOOD}  ",
        f"sha-512=:AAAA:, {GOOD}",
        f"{GOOD},\tsha-512=:AAAA:",
        f'{GOOD};q=1;other=token;text="a b";yes;no=?0',
        f"sha-256=:AAAA:,{GOOD}",  # of equal members the last one counts
    ],
)
def test_what_is_claimed(header: str) -> None:
    assert claimed_digest("content-digest", header) == DIGEST


@pytest.mark.parametrize(
    "header",
    [
        "",
        "sha-256",
        "sha-256=abc",
        f"sha-256={base64.b64encode(DIGEST.raw).decode()}",
        "sha-256=:AAAA:",
        "sha-256=:not base64:",
        "sha-256=:A:",
        "SHA-256=:AAAA:",
        f"{GOOD},",
        f"{GOOD} {GOOD}",
        f"{GOOD};",
        f"{GOOD}x",
        "sha-512=:AAAA:",
        GOOD + ";a=" + "1" * 2000,
        "(" + GOOD + ")",
    ],
)
def test_what_cannot_be_checked_is_refused(header: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        claimed_digest("content-digest", header)
    assert "content-digest" in caught.value.message
    assert caught.value.hint


@given(st.text(st.characters(max_codepoint=255)) | st.text('sha-2561=:;,? "A/+'))
def test_whatever_comes_is_answered(text: str) -> None:
    try:
        claimed_digest("repr-digest", text)
    except InvalidInput:
        pass


@given(st.binary(min_size=32, max_size=32))
def test_every_digest_comes_back(raw: bytes) -> None:
    digest = Digest(HashAlgo.SHA256, raw)
    assert claimed_digest("content-digest", digest_field(digest)) == digest
