"""What of a commit can be worked out before its transaction: pages are sealed, counted and checked to be whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from graviton.core.manifests import ManifestPage, PageChain
from graviton.core.names import check_name
from graviton.errors import Conflict, InvalidInput
from graviton.metadata.owners import FORGOTTEN_HINT
from graviton.ports.manifests import MAX_COMMIT_PAGES, BlobCommit

__all__ = ["SEAL_PAGES", "Prepared", "prepare"]

SEAL_PAGES = 16
"""Pages sealed per transaction, 2.4 MB."""

_P = TypeVar("_P")


class Prepared(NamedTuple):
    """A commit whose pages are sealed: all that can be worked out before the transaction."""

    commit: BlobCommit
    sealed: Sequence[tuple[ManifestPage, bytes]]
    """The last pages, not yet written."""
    page_count: int
    block_count: int
    pages_digest: bytes
    last_written: tuple[int, bytes] | None = None
    """End and stored form of the last page that was sealed where it lies; all others were before it. For who can lose
    that again before the commit."""


async def prepare(
    one: BlobCommit, seal_some: Callable[[_P | None], Awaitable[Sequence[tuple[ManifestPage, bytes, _P]]]]
) -> Prepared:
    """Seal the pages that were added while the blob's key was not known, and those that come with the commit.

    `seal_some(after)` seals some pages of the session after a place, and gives page, sealed form and place of each;
    none at the end. Raises InvalidInput for the pages of the commit, Conflict for those that the session has or has
    not, and what `seal_some` raises.
    """
    check_name(one.holder, "holder")
    if len(one.pages) > MAX_COMMIT_PAGES:
        raise InvalidInput(f"a commit brings at most {MAX_COMMIT_PAGES} pages, not {len(one.pages)}")
    chain = PageChain(one.key.algo)
    blocks = end = 0
    last_written: tuple[int, bytes] | None = None
    after: _P | None = None
    while chain.pages < one.pages[0].number if one.pages else end < one.key.size:
        rows = await seal_some(after)
        if not rows:
            raise _misses(one, chain.pages, end)
        after = rows[-1][2]
        for page, data, _ in rows:
            if not _follows(page, chain.pages, end):
                raise _misses(one, chain.pages, end)
            chain.add(data)
            blocks, end = blocks + len(page), page.end
            last_written = end, data
    sealed = [(page, page.seal(one.key)) for page in one.pages]
    for page, data in sealed:
        if not _follows(page, chain.pages, end):
            raise InvalidInput(
                f"page {page.number} at {page.offset} does not follow page {chain.pages - 1}, which ends at {end}"
            )
        chain.add(data)
        blocks, end = blocks + len(page), page.end
    if end != one.key.size:
        raise InvalidInput(f"the pages of blob {one.key} cover {end} bytes", subject=one.key.text)
    return Prepared(one, sealed, chain.pages, blocks, chain.digest(), last_written)


def _follows(page: ManifestPage, number: int, offset: int) -> bool:
    return (page.number, page.offset) == (number, offset)


def _misses(one: BlobCommit, number: int, offset: int) -> Conflict:
    return Conflict(
        f"session {one.session:x} has not page {number} of blob {one.key}, which begins at {offset}",
        operation="commit",
        subject=one.key.text,
        hint=FORGOTTEN_HINT,
    )
