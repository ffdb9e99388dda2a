"""If-Match, If-None-Match and If-Range (RFC 9110 section 13) for things whose only validator is a strong entity tag.

Pure functions; nothing here raises. A header that is malformed matches nothing: If-Match then fails and If-None-Match
and If-Range let the whole answer through, so no mistake of a client lets it keep what it should not.
"""

from __future__ import annotations

import re
from enum import Enum

__all__ = ["Verdict", "etag_of", "judge", "range_applies"]

_TAG = re.compile(r'[ \t]*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*(?:,|$)')
_BLANK = re.compile(r"[ \t]*(?:,|$)")


class Verdict(Enum):
    """What the conditions of a request come to."""

    GO_ON = "go on"
    NOT_MODIFIED = "304"
    """The client has it: answer without a body."""
    FAILED = "412"
    """What the client has seen is not what is there."""


def etag_of(identity: str) -> str:
    """The strong entity tag of what is addressed by its content: the id in quotes."""
    return f'"{identity}"'


def judge(etag: str, if_match: str | None, if_none_match: str | None) -> Verdict:
    """What a GET or HEAD of something that exists and has the tag `etag` comes to, in the order of section 13.2.2."""
    if if_match is not None and not _matches(if_match, etag, strong=True):
        return Verdict.FAILED
    if if_none_match is not None and _matches(if_none_match, etag, strong=False):
        return Verdict.NOT_MODIFIED
    return Verdict.GO_ON


def range_applies(etag: str, if_range: str | None) -> bool:
    """Whether Range is to be obeyed. A date never matches: there is no Last-Modified to compare it with."""
    return if_range is None or if_range.strip(" \t") == etag


def _matches(header: str, etag: str, strong: bool) -> bool:
    if header.strip(" \t") == "*":
        return True
    found, at = False, 0
    while at < len(header):
        tag = _TAG.match(header, at)
        if tag is None:
            blank = _BLANK.match(header, at)  # an empty element of the list
            if blank is None or blank.end() == at:
                return False
            at = blank.end()
            continue
        at = tag.end()
        found = found or (f'"{tag[2]}"' == etag and not (strong and tag[1]))
    return found
