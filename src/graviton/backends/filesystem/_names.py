"""The names this backend gives: blocks and temporary files. Those in the trash are the port's."""

from __future__ import annotations

import itertools
import re
import secrets
from typing import NamedTuple

from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.locators import parse_block_name
from graviton.errors import InvalidInput

__all__ = ["TempName", "TempNames", "block_name", "parse_block", "parse_temp"]

_TEMP = re.compile(r"\.tmp-([A-Za-z0-9-]*)-([0-9a-f]{24})")
_TOKEN_BYTES = 8
"""64 random bits per batch: no two processes ever choose the same name."""


class TempName(NamedTuple):
    """A temporary file as its name tells it."""

    path: str
    """Absolute."""
    session: str
    """Tag of the session that writes or wrote it; empty if it had none."""


class TempNames:
    """Names of temporary files of one batch: `.tmp-<session>-<16 random><8 counting hex digits>`."""

    __slots__ = ("_count", "_start")

    def __init__(self, session: str) -> None:
        self._start = f".tmp-{session}-{secrets.token_hex(_TOKEN_BYTES)}"
        self._count = itertools.count()  # several threads write one batch; its next() is atomic

    def next(self) -> str:
        """A name never given before."""
        return f"{self._start}{next(self._count):08x}"


def parse_temp(name: str) -> str | None:
    """The session tag in the name of a temporary file; None for any other name."""
    match = _TEMP.fullmatch(name)
    return match[1] if match else None


def block_name(key: BlockKey) -> str:
    """`<hex>-<size>`, the file name of a block in the folder of its algorithm."""
    return f"{key.digest.raw.hex()}-{key.size}"


def parse_block(algo: HashAlgo, name: str) -> BlockKey | None:
    """The key of the block called `name`; None for any other name."""
    if not name[:1].isalnum():
        return None  # temporary and hidden files, without the cost of an exception
    try:
        return parse_block_name(algo, name)
    except InvalidInput:
        return None
