from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.core.attributes import FILE_NAME, MIME
from graviton.errors import InvalidInput
from graviton.server.http.names import (
    advertised_values,
    content_disposition,
    file_name_of,
    is_active,
    percent_decoded,
)


def test_what_a_client_says_about_its_bytes() -> None:
    assert advertised_values(
        [
            ("content-type", "image/png"),
            ("content-disposition", 'attachment; filename="a b.png"'),
            ("x-graviton-attr-color", "bright%20red"),
            ("x-graviton-attr-place", "Z%C3%BCrich"),
            ("host", "x"),
        ]
    ) == {MIME: "image/png", FILE_NAME: "a b.png", "user.color": "bright red", "user.place": "Zürich"}


def test_an_attribute_called_name_is_the_name() -> None:
    named = [("content-disposition", "attachment; filename=a"), ("x-graviton-attr-name", "b")]
    assert advertised_values(named) == advertised_values(named[::-1]) == {FILE_NAME: "b"}


def test_what_curl_sends_by_default_says_nothing() -> None:
    assert advertised_values([("content-type", "application/x-www-form-urlencoded")]) == {}
    assert advertised_values([("content-type", "")]) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-type", "nothing"),
        ("content-type", "text/plain" + "x" * 300),
        ("content-type", "multipart/form-data; boundary=x"),
        ("content-disposition", ""),
        ("content-disposition", "attachment; filename"),
        ("content-disposition", "attachment; filename=a; filename=b"),
        ("content-disposition", 'attachment; filename="a'),
        ("content-disposition", "attachment; filename*=UTF-8'a"),
        ("content-disposition", "attachment; filename*=latin1''a"),
        ("content-disposition", "attachment; filename*=UTF-8''%zz"),
        ("content-disposition", "attachment; filename=" + "a" * 2000),
        ("content-disposition", "x; " + "a=b; " * 5000),
        ("x-graviton-attr-", "a"),
        ("x-graviton-attr--a", "a"),
        ("x-graviton-attr-a/b", "a"),
        ("x-graviton-attr-a", "100% sure"),
        ("x-graviton-attr-a", "%ff"),
        ("x-graviton-attr-a", "é"),
        ("x-graviton-attr-a", "%00"),
        ("x-graviton-attr-a", "a" * 1025),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        advertised_values([(name, value)])
    assert name == caught.value.subject


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("attachment", None),
        ("inline; size=3", None),
        ("attachment; filename=plain.txt", "plain.txt"),
        ('attachment; filename="a\\"b\\\\c"', "c"),  # a backslash is a separator to some, and no name has one here
        ('form-data; name="x"; filename="y.z";', "y.z"),
        ("attachment; filename=\"fallback\"; filename*=UTF-8''%e2%82%ac%20rates", "€ rates"),
        ("attachment; filename*=utf-8'en'a.txt", "a.txt"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\Users\\\\me\\\\x.doc"', "x.doc"),
        ('attachment; filename="folder/"', None),
        ('attachment; filename="Z\u00c3\u00bcrich"', "Zürich"),  # UTF-8, read as latin-1
        ('attachment; filename="Z\u00fcrich"', "Zürich"),
    ],
)
def test_names_of_files(header: str, name: str | None) -> None:
    assert file_name_of(header) == name


@given(st.text(st.characters(max_codepoint=255)) | st.text("attachment;filename*=\"\\'UTF-8% "))
def test_whatever_comes_is_answered(text: str) -> None:
    for header in (text, "attachment; " + text, "attachment; filename*=UTF-8''" + text):
        try:
            name = file_name_of(header)
        except InvalidInput:
            continue
        assert name is None or not re.search(r"[/\\]", name)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), min_size=1, max_size=100))
def test_a_name_that_is_said_back_is_the_same(name: str) -> None:
    header = content_disposition(name, "image/png")
    assert header is not None
    header.encode("ascii")
    assert not re.search(r"[\x00-\x1f\x7f]", header)
    assert file_name_of(header) == name


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
def test_percent_encoding_comes_back(text: str) -> None:
    assert percent_decoded("x", quote(text, safe="")) == text


@pytest.mark.parametrize(
    "kind",
    ["text/html", "TEXT/HTML; charset=utf-8", "image/svg+xml", "application/xhtml+xml", "application/pdf", "text/xml"],
)
def test_what_a_browser_would_run_is_a_download(kind: str) -> None:
    assert is_active(kind)
    assert content_disposition(None, kind) == "attachment"
    assert content_disposition("a", kind) == 'attachment; filename="a"'


def test_other_types_are_shown() -> None:
    assert content_disposition(None, "image/png") is None
    assert content_disposition("a", "text/plain") == 'inline; filename="a"'
