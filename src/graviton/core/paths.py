"""The rule for relative paths of stored objects: what may stand after the bucket of a locator."""

from __future__ import annotations

from typing import Final

from graviton.errors import InvalidInput

__all__ = ["MAX_PATH_CHARS", "check_path", "is_plain"]

MAX_PATH_CHARS: Final = 2048
"""As in the Scala ancestor. S3 itself allows 1,024 bytes of key, Linux 4,096 of a path."""


def check_path(path: str, what: str = "path of a locator") -> str:
    """`path` itself if it is a legal relative path. Raises InvalidInput that calls it `what`."""
    if not 1 <= len(path) <= MAX_PATH_CHARS:
        raise InvalidInput(f"the {what} has 1 to {MAX_PATH_CHARS} characters, not {len(path)}", subject=path[:80])
    if not is_plain(path):
        raise InvalidInput(f"the {what} {path[:120]!r} holds whitespace or control characters", subject=path[:120])
    for segment in path.split("/"):
        if segment in ("", ".", ".."):
            raise InvalidInput(
                f"the {what} {path[:120]!r} has a segment {segment!r}",
                subject=path[:120],
                hint="Write it without a slash at either end, and without '.' and '..'.",
            )
    return path


def is_plain(text: str) -> bool:
    """Whether `text` has no whitespace, no control characters and no lone surrogates."""
    # str.isprintable is false for all we refuse, and for code points this Python does not know: those are looked at
    # one by one, so that the answer is the same in every version.
    if text.isprintable() and " " not in text:
        return True
    return not any(
        char.isspace() or char < "\x20" or "\x7f" <= char < "\xa0" or "\ud800" <= char <= "\udfff" for char in text
    )
