"""Pages that were written before the blob's key was known are sealed for it, in short transactions before the commit.

Nobody waits for these on the disk: the commit does that for all of them, because the log is written in order. But a
server that crashes in between may forget a seal of a session that lives on, and then a blob would be visible that
nobody can read. So each of these transactions looks that the last page of the one before is there as it was left, and
the commit looks that the last page of all is.
"""

from __future__ import annotations

from graviton.backends.postgres._blob_rows import insert_pages
from graviton.backends.postgres._owners import check_open, lock_owners
from graviton.backends.postgres._scripts import Script, Statement
from graviton.backends.postgres._soundness import PAGES_AFTER
from graviton.core.keys import BlobKey
from graviton.core.manifests import ManifestPage, sealed_page
from graviton.errors import Conflict
from graviton.metadata.owners import FORGOTTEN_HINT
from graviton.metadata.preparing import SEAL_PAGES

__all__ = ["seal_some", "seals_lost"]


def seal_some(session: int, blob: BlobKey, after: int) -> Script[list[tuple[ManifestPage, bytes, int]]]:
    """Seal some pages of an open session in order, after those up to the offset `after`: (page, stored form, end) of
    each. Sealing a sealed page again changes nothing, so an interrupted commit can be repeated. Raises Conflict."""
    before = 1 if after else 0  # the last page of those that are sealed already
    values = {"owner": session, "after": after - before, "limit": before + SEAL_PAGES}
    locked, found = yield [lock_owners([session]), Statement(PAGES_AFTER, values)]
    check_open(session, locked.rows)
    done = [(*sealed_page(data, blob), end, data) for end, data in found.rows]
    changed = [(end, sealed) for _, sealed, end, data in done if sealed != data]
    if before and (not done or done[0][2] != after or after in dict(changed)):
        raise seals_lost(session, blob)
    if changed:
        yield [insert_pages(session, changed)]
    return [(page, sealed, end) for page, sealed, end, _ in done[before:]]


def seals_lost(session: int, blob: BlobKey) -> Conflict:
    """The error of who finds pages otherwise than he left them."""
    return Conflict(
        f"pages of session {session:x} are not there as they were sealed",
        operation="commit",
        subject=blob.text,
        hint=FORGOTTEN_HINT,
    )
