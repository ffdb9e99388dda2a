"""No secret in a line, whoever wrote it; and no text makes looking for them slow."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graviton.core.secret import Secret
from graviton.server.log_redaction import Redactor

TOKEN = "s3cr3t-t0ken-that-n0b0dy-kn0ws"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {TOKEN}",
        f"authorization: {TOKEN}",
        f"[(b'host', b'x'), (b'authorization', b'Bearer {TOKEN}'), (b'accept', b'*/*')]",
        f"{{'Authorization': 'Bearer {TOKEN}', 'Accept': '*/*'}}",
        f'{{"proxy-authorization":"Basic {TOKEN}"}}',
        f"Cookie: a=b; session={TOKEN}",
        f"set-cookie: session={TOKEN}; HttpOnly",
        f"X-Api-Key: {TOKEN}",
        f"GRAVITON_API_TOKEN={TOKEN} graviton serve",
        f"PGPASSWORD={TOKEN}",
        f"password: {TOKEN}",
        f"Config(user='me', password='{TOKEN}', port=1)",
        f"secret_access_key = '{TOKEN}'",
        f"no connection to postgresql://me:{TOKEN}@db.example/graviton",
        f"GET https://bucket.example/key?X-Amz-Signature={TOKEN}&x=y answered 403",
        f"the header said bearer {TOKEN}",
    ],
)
def test_secrets_behind_their_names_are_hidden(text: str) -> None:
    shown = Redactor()(text)
    assert TOKEN not in shown
    assert "***" in shown


def test_what_stands_around_stays() -> None:
    redact = Redactor()
    assert redact("(b'authorization', b'Bearer abcdefghijkl'), (b'accept', b'*/*')").endswith("(b'accept', b'*/*')")
    assert redact("no connection to postgresql://me:pw@db.example/x: refused") == (
        "no connection to postgresql://***@db.example/x: refused"
    )
    for text in (
        "GET /api/blobs/{id} 200",
        "the token is missing",
        "basic rules: none",
        "write GRAVITON_API_TOKEN (16 characters or more)",
        "https://docs.example/page#part is where it says so",
    ):
        assert redact(text) == text


@settings(max_examples=50)
@given(
    secret=st.text(min_size=6, max_size=40),
    before=st.text(max_size=9),
    after=st.text(max_size=9),
)
def test_known_secrets_are_hidden_wherever_they_stand(secret: str, before: str, after: str) -> None:
    assert secret not in Redactor([Secret(secret)])(f"{before}{secret}{after}") or secret in f"{before}***{after}"


def test_a_secret_that_holds_another_one_is_hidden_whole() -> None:
    redact = Redactor([Secret("password-one"), Secret("password-one-and-more")])
    assert redact("it was password-one-and-more") == "it was ***"


@pytest.mark.parametrize(
    "piece",
    [
        "a.",
        "http://",
        "://a",
        "cookie ",
        "cookie: ",
        "token",
        "token=",
        "bearer ",
        "basic a",
        "'",
        "password'",
        "?",
        "@",
    ],
)
def test_looking_takes_time_in_proportion_to_the_text(piece: str) -> None:
    """Texts are cut at 8 KiB (64 KiB of tracebacks); here is ten times as much of what repeats badly."""
    text = ("://cookie" + piece * 400_000)[:650_000]
    began = time.process_time()
    Redactor()(text)
    assert time.process_time() - began < 5
