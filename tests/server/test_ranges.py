"""Conditions and ranges, compared with a plain model of RFC 9110 that shares no code with the server."""

from __future__ import annotations

import os
import re
from email.message import Message
from email.parser import BytesParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.serving import Answer, Served

SIZE = 200_003
DATA = os.urandom(SIZE)


@pytest.fixture(scope="module")
def path(server: Served) -> str:
    """Where a blob of four blocks is."""
    return f"/api/blobs/{server.put(DATA, Content_Type='text/plain')}"


def wanted(header: str) -> list[tuple[int, int]] | None:
    """What a range header asks for: (first, past the last) of those that hold a byte; None: all of it."""
    if not header.startswith("bytes="):
        return None
    found = []
    for spec in header[6:].split(","):
        match = re.fullmatch(r"\s*(\d*)-(\d*)\s*", spec)
        if match is None or match[0].strip() == "-":
            return None
        first, last = match[1], match[2]
        if not first:
            span = (max(0, SIZE - int(last)), SIZE) if int(last) else (0, 0)
        elif last and int(last) < int(first):
            return None
        else:
            span = (int(first), min(SIZE, int(last) + 1 if last else SIZE))
        found.append(span)
    return [span for span in found if span[0] < span[1]]


def parts_of(answer: Answer) -> list[tuple[int, bytes]]:
    """First byte and bytes of each part."""
    if not answer.headers["content-type"].startswith("multipart/byteranges"):
        match = re.fullmatch(rf"bytes (\d+)-(\d+)/{SIZE}", answer.headers["content-range"])
        assert match is not None
        assert int(match[2]) - int(match[1]) + 1 == len(answer.body)
        return [(int(match[1]), answer.body)]
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    whole: Message = BytesParser().parsebytes(head + answer.body)
    boundary = whole.get_boundary()
    assert boundary is not None
    found = []
    for part in answer.body.split(f"--{boundary}".encode())[1:-1]:  # the parser would mend the ends of lines
        headers, _, body = part.partition(b"\r\n\r\n")
        match = re.search(rf"Content-Range: bytes (\d+)-(\d+)/{SIZE}".encode(), headers)
        assert match is not None
        assert b"Content-Type: text/plain" in headers
        assert int(match[2]) - int(match[1]) + 1 == len(body) - 2
        found.append((int(match[1]), body[:-2]))
    return found


_NUMBER = st.integers(0, SIZE + 5) | st.sampled_from([0, 1, 65_535, 65_536, SIZE - 1, SIZE, 10**18])
_SPEC = st.one_of(
    st.builds("{}-{}".format, _NUMBER, _NUMBER), st.builds("{}-".format, _NUMBER), st.builds("-{}".format, _NUMBER)
)
HEADERS = st.lists(_SPEC, min_size=1, max_size=5).map(lambda specs: "bytes=" + ", ".join(specs))


@settings(max_examples=80)
@given(HEADERS)
def test_ranges_as_the_model_has_them(server: Served, path: str, header: str) -> None:
    answer = server.request("GET", path, headers={"Range": header})
    expected = wanted(header)
    if expected is None:
        assert (answer.status, answer.body) == (200, DATA)
    elif not expected:
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{SIZE}")
        assert answer.json["error"] == "range_not_satisfiable"
    else:
        assert answer.status == 206
        assert int(answer.headers["content-length"]) == len(answer.body)
        parts = parts_of(answer)
        assert all(DATA[at : at + len(data)] == data for at, data in parts)
        sent = [(at, at + len(data)) for at, data in parts]
        for first, end in expected:
            assert any(at <= first and end <= until for at, until in sent)
        assert sum(until - at for at, until in sent) <= SIZE
        if len(sent) == len(expected):
            assert sent == expected, "as they were asked for"


@pytest.mark.parametrize(
    "header", ["", "bytes", "bytes=", "bytes=a-b", "items=0-1", "bytes=5-4", "bytes=" + "0-0," * 20]
)
def test_what_is_no_range_is_ignored(server: Served, path: str, header: str) -> None:
    answer = server.request("GET", path, headers={"Range": header})
    assert (answer.status, answer.body) == (200, DATA)


def test_no_range_asks_for_more_than_there_is(server: Served, path: str) -> None:
    """CVE-2011-3192: a thousand overlapping ranges."""
    answer = server.request("GET", path, headers={"Range": "bytes=" + ",".join(f"{n}-" for n in range(16))})
    assert (answer.status, len(answer.body)) == (206, SIZE)


def test_ranges_of_nothing(server: Served) -> None:
    empty = f"/api/blobs/{server.put(b'')}"
    for header in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        answer = server.request("GET", empty, headers={"Range": header})
        assert (answer.status, answer.headers["content-range"]) == (416, "bytes */0")
    assert server.request("GET", empty).status == 200


def test_ranges_of_what_is_not_there_are_not_there(server: Served) -> None:
    nowhere = f"/api/blobs/blake3:{'0' * 64}:5"
    for headers in ({"Range": "bytes=9-"}, {"Range": "bytes=0-1"}, {"If-Match": '"x"'}, {"If-None-Match": "*"}, {}):
        assert server.request("GET", nowhere, headers=headers).status == 404


def test_conditions(server: Served, path: str) -> None:
    etag = server.request("HEAD", path).headers["etag"]

    def status(method: str = "GET", **headers: str) -> int:
        return server.request(
            method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        ).status

    for method in ("GET", "HEAD"):
        assert status(method, If_None_Match=etag) == 304
        assert status(method, If_None_Match=f'"x", W/{etag}') == 304
        assert status(method, If_None_Match="*") == 304
        assert status(method, If_None_Match='"x"') == 200
        assert status(method, If_Match=etag) == 200
        assert status(method, If_Match="*") == 200
        assert status(method, If_Match='"x"') == 412
        assert status(method, If_Match=f"W/{etag}") == 412
        assert status(method, If_Match='"x"', If_None_Match=etag) == 412
    assert status(Range="bytes=0-0", If_Range=etag) == 206
    assert status(Range="bytes=0-0", If_Range='"x"') == 200
    assert status(Range="bytes=0-0", If_Range="Sun, 06 Nov 1994 08:49:37 GMT") == 200
    assert status(Range="bytes=999999-", If_Range='"x"') == 200
    assert status(Range="bytes=0-0", If_None_Match=etag) == 304
    told = server.request("GET", path, headers={"If-None-Match": etag})
    assert (told.body, told.headers["etag"]) == (b"", etag)
    assert told.headers["cache-control"].endswith("immutable")
    failed = server.request("GET", path, headers={"If-Match": '"x"'})
    assert failed.json["error"] == "precondition_failed"


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(["Range", "If-Range", "If-Match", "If-None-Match"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60),
        max_size=4,
    )
)
def test_whatever_comes_is_answered(server: Served, path: str, headers: dict[str, str]) -> None:
    answer = server.request("GET", path, headers=headers)
    assert answer.status in (200, 206, 304, 412, 416)
    if answer.status == 200:
        assert answer.body == DATA
