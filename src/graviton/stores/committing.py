"""The commit of blobs, also where its reply was lost: then their owners say whether it happened."""

from __future__ import annotations

from collections.abc import Sequence

from graviton.errors import NotFound, Unavailable
from graviton.ports.block_index import BlockIndex, OwnerState
from graviton.ports.manifests import BlobCommit, BlobManifestRepo, CommitResult

__all__ = ["commit_all"]


async def commit_all(
    manifests: BlobManifestRepo, index: BlockIndex, commits: Sequence[BlobCommit], domain: str
) -> list[CommitResult]:
    """Make blobs visible in one transaction. Raises Unavailable only if that did not happen or cannot be found out,
    and Conflict if a session was ended meanwhile."""
    try:
        return await manifests.commit(commits)
    except Unavailable:
        results = []
        for commit in commits:
            found = await _look(manifests, index, commit, domain)
            if found is None:
                raise
            results.append(found)
        return results


async def _look(manifests: BlobManifestRepo, index: BlockIndex, commit: BlobCommit, domain: str) -> CommitResult | None:
    owner = await index.owner(commit.session)
    if owner is None or owner.state not in (OwnerState.COMMITTED, OwnerState.DROPPED):
        return None
    try:
        record = await manifests.get(commit.key, domain)
    except NotFound:
        return None  # somebody has deleted it since
    return CommitResult(record, created=owner.state is OwnerState.COMMITTED)
