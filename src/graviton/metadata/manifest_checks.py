"""Whether the manifest of a visible blob can be relied on: what a commit asks before it merges into it.

A put of the same bytes must not be acknowledged over a manifest that nobody can read: one with a damaged page, or, if
the new put cut the blob otherwise, with a block that is not stored. docs/block-life.md, point 3.

Small manifests are looked at inside the transaction that commits. Others are looked at before it, in bounded batches,
and the transaction takes the answer. What may have changed in between does no harm: pages of a committed owner never
change; a block of its that was stored may be marked damaged, which is no worse than a mark right after the commit; a
block that was not stored may be by now, and is then written twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

from graviton.core.manifests import ManifestPage, PageChain, is_sealed
from graviton.errors import IntegrityError
from graviton.metadata.rows import BLOCKS, PAGES, BlockRow, u64
from graviton.ports.block_index import BlockState
from graviton.ports.kv import KeyValueStore, ReadTransaction
from graviton.ports.manifests import BlobRecord

__all__ = ["Answers", "Suspect", "UncheckedManifestsError", "check_outside", "is_complete", "sound_ones", "unanswered"]

MAX_PAGES_INSIDE = 4
"""Pages of a blob whose seals are checked by a commit itself, 590 KB: a fraction of a millisecond."""

MAX_BLOCKS_INSIDE = 1000
"""Block records that one commit looks up for all its blobs together: one to two milliseconds."""

_PAGES_PER_READ = 2
"""Pages looked at per hop outside of the transaction: with up to 8,192 block records some ten milliseconds."""


class Suspect(NamedTuple):
    """A manifest to be checked."""

    record: BlobRecord
    domain: bytes
    """The domain's key prefix."""
    with_blocks: bool
    """Whether the records of its blocks matter. Not if the new manifest has the same blocks: whoever commits it has
    just seen to every one."""

    @property
    def question(self) -> tuple[int, bool]:
        """What an answer is kept under: an owner's pages never change."""
        return self.record.owner, self.with_blocks


Answers: TypeAlias = Mapping[tuple[int, bool], bool]
"""Whether the manifest is sound, by `Suspect.question`."""


class UncheckedManifestsError(Exception):
    """A commit met visible blobs with so many pages or blocks that they must be checked outside of it first."""

    def __init__(self, suspects: Sequence[Suspect]) -> None:
        super().__init__(", ".join(one.record.key.text for one in suspects[:3]))
        self.suspects = suspects


def sound_ones(tx: ReadTransaction, suspects: Sequence[Suspect], answers: Answers) -> set[tuple[int, bool]]:
    """The questions whose answer is yes. Raises UncheckedManifestsError."""
    unknown = unanswered(suspects, answers)
    yes = {one.question for one in suspects if answers.get(one.question)}
    return yes | {one.question for one in unknown if _is_sound(tx, one)}


def unanswered(suspects: Sequence[Suspect], answers: Answers) -> list[Suspect]:
    """Those that a transaction looks at itself. Raises UncheckedManifestsError if that is too much."""
    unknown = [one for one in suspects if one.question not in answers]
    looked_up = [one for one in unknown if one.with_blocks]
    if sum(one.record.block_count for one in looked_up) > MAX_BLOCKS_INSIDE:
        raise UncheckedManifestsError(looked_up)
    if large := [one for one in unknown if one.record.page_count > MAX_PAGES_INSIDE]:
        raise UncheckedManifestsError(large)
    return unknown


async def check_outside(kv: KeyValueStore, suspect: Suspect) -> bool:
    """The answer for a manifest of any size; of a blob that is gone meanwhile it does not matter."""
    chain = PageChain(suspect.record.key.algo)
    after: bytes | None = None
    try:
        while chain.pages < suspect.record.page_count:
            rows = await kv.read(partial(_sound_pages, suspect=suspect, after=after, limit=_PAGES_PER_READ))
            if not rows:
                return False
            for _, data in rows:
                chain.add(data)
            after = rows[-1][0]
    except IntegrityError:
        return False
    return is_complete(chain, suspect.record)


def _is_sound(tx: ReadTransaction, suspect: Suspect) -> bool:
    chain = PageChain(suspect.record.key.algo)
    try:
        for _, data in _sound_pages(tx, suspect, None, None):
            chain.add(data)
    except IntegrityError:
        return False
    return is_complete(chain, suspect.record)


def is_complete(chain: PageChain, record: BlobRecord) -> bool:
    """Whether these were all pages of the blob."""
    return chain.pages == record.page_count and chain.digest() == record.pages_digest


def _sound_pages(
    tx: ReadTransaction, suspect: Suspect, after: bytes | None, limit: int | None
) -> list[tuple[bytes, bytes]]:
    """Rows of pages, each checked with its blocks. Raises IntegrityError, also for a row that the store itself finds
    damaged."""
    record = suspect.record
    rows = list(tx.scan(PAGES, u64(record.owner), after, limit))
    for _, data in rows:
        if suspect.with_blocks:
            _check_blocks(tx, suspect.domain, ManifestPage.open(data, record.key))
        elif not is_sealed(data, record.key):
            raise IntegrityError("a manifest page does not match its digest", subject=record.key.text)
    return rows


def _check_blocks(tx: ReadTransaction, domain: bytes, page: ManifestPage) -> None:
    keys = list(dict.fromkeys(page.keys))
    rows = tx.get_many(BLOCKS, [domain + key.to_bytes() for key in keys])
    for key, data in zip(keys, rows, strict=True):
        if data is None or BlockRow.decode(data).state is not BlockState.STORED:
            raise IntegrityError(f"block {key} is not stored", subject=key.text)
