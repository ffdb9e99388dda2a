"""What maintenance finds: damages, notes and the summary of a run, as values for people and programs."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias

from graviton.core.keys import BlobKey, BlockKey
from graviton.core.ranges import Span

__all__ = ["MISMATCH", "Damage", "Part", "Report", "VerifySummary"]

MISMATCH: Final = "does not match its digest, although all its blocks do"
"""What is wrong with a blob whose parts are sound."""


class Part(StrEnum):
    """What is damaged; the values are stable names."""

    BLOCK = "block"
    """The stored bytes of a block."""
    BLOCK_RECORD = "block_record"
    """What the metadata knows of a block."""
    PAGE = "page"
    """A page of a blob's manifest."""
    BLOB = "blob"
    """The blob as a whole: every part is sound by itself, and together they are something else."""
    BLOB_RECORD = "blob_record"
    """The blob's row, or that of its owner."""
    STORE = "store"
    """Totals or structure of the metadata."""


class Damage(NamedTuple):
    """One thing that is wrong."""

    part: Part
    problem: str
    """What is wrong with it, a verb phrase: `is missing`."""
    blob: BlobKey | None = None
    """The blob that suffers; None if no visible blob does."""
    block: BlockKey | None = None
    span: Span | None = None
    """The bytes of the blob that cannot be relied on."""
    is_note: bool = False
    """Worth knowing, and no visible blob is worse for it."""
    domain: str = ""
    """Where blob and block are; the text says so unless it is the default domain."""

    @property
    def text(self) -> str:
        """One line for people."""
        where = f"blob {self.blob}: " if self.blob is not None else ""
        what = f"block {self.block}" if self.block is not None else _NOUNS[self.part]
        if self.part is Part.BLOCK_RECORD:
            what = f"the record of {what}"
        text = f"{where}{what} {self.problem}"
        if self.domain:
            text = f"domain {self.domain!r}: {text}"
        if self.blob is not None and self.span is not None and self.span.end > self.span.start:
            text += f" (bytes {self.span.start}-{self.span.end - 1} of the blob)"
        return text

    def to_json(self) -> dict[str, Any]:
        """The finding as one JSON object; `range` is inclusive, as everywhere a person meets one."""
        out: dict[str, Any] = {"note" if self.is_note else "damage": self.part.value}
        if self.domain:
            out["domain"] = self.domain
        if self.blob is not None:
            out |= {"id": self.blob.text, "size": self.blob.size}
        if self.span is not None and self.span.end > self.span.start:
            out["range"] = f"{self.span.start}-{self.span.end - 1}"
        if self.block is not None:
            out["block"] = {"key": self.block.text, "size": self.block.size}
            if self.blob is not None and self.span is not None:
                out["block"]["offset"] = self.span.start
        out["message"] = self.text
        return out


_NOUNS = {
    Part.BLOCK: "a block",
    Part.BLOCK_RECORD: "a block",
    Part.PAGE: "a manifest page",
    Part.BLOB: "the blob",
    Part.BLOB_RECORD: "its record",
    Part.STORE: "the metadata",
}

Report: TypeAlias = Callable[[Damage], None]
"""Where findings go, one by one, while the run goes on."""


class VerifySummary(NamedTuple):
    """What a verification did."""

    blobs: int
    blocks: int
    """Distinct blocks looked at; one that was looked at again after a very long time counts twice."""
    logical_bytes: int
    """Sum of the sizes of the blobs."""
    read_bytes: int
    """Bytes of blocks read; more than is stored where blobs share blocks."""
    damaged_blobs: int
    damages: int
    notes: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        """Whether nothing is damaged; notes do not count."""
        return self.damages == 0
