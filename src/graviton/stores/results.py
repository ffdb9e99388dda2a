"""What a plan asks for, what came of it, and the values that tell: shared by all ways in."""

from __future__ import annotations

import warnings
from typing import NamedTuple

from graviton.core.attribute_values import CHUNK_COUNT, SIZE
from graviton.core.attributes import BinaryAttributes
from graviton.core.chunking import DEFAULT_SPEC, ChunkerSpec
from graviton.core.clock import Clock
from graviton.core.hashing import DEFAULT_HASH, HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.locators import Locator
from graviton.core.policies import BlobLayout, BlobWritePlan, Compression, Encryption, StorePolicy
from graviton.errors import DigestMismatch, InvalidInput, Unsupported
from graviton.ports.blobs import BlobStat, BlobWriteResult, IngestStats
from graviton.ports.manifests import BlobRecord, CommitResult

__all__ = [
    "CasDefaults",
    "ListedStats",
    "Wanted",
    "blob_locator",
    "check_claims",
    "check_policy",
    "confirmed",
    "result_of",
    "stat_of",
    "wanted",
    "warn_if_other",
]


class CasDefaults(NamedTuple):
    """What a plan that says nothing gets."""

    hash: HashAlgo = DEFAULT_HASH
    chunker: ChunkerSpec = DEFAULT_SPEC
    policy: StorePolicy | None = None


class ListedStats(NamedTuple):
    """Some blobs of a listing."""

    stats: list[BlobStat]
    unreadable: list[str]
    """Key texts of blobs among them whose metadata is damaged."""


class Wanted(NamedTuple):
    """A plan with the defaults filled in."""

    plan: BlobWritePlan
    hash: HashAlgo
    chunker: ChunkerSpec
    defaults: CasDefaults


def wanted(plan: BlobWritePlan | None, defaults: CasDefaults) -> Wanted:
    """Check a plan and fill it in. Raises Unsupported for what this kind of store does not do, and InvalidInput for a
    digest that could not be compared."""
    plan = plan or _DEFAULT_PLAN
    check_policy(plan.policy or defaults.policy)
    algo = plan.hash or defaults.hash
    _check_digest_algos(plan.attributes, algo)
    return Wanted(plan, algo, plan.chunker or defaults.chunker, defaults)


_DEFAULT_PLAN = BlobWritePlan()


def confirmed(advertised: BinaryAttributes, size: int, blocks: int, clock: Clock) -> BinaryAttributes:
    """What the client said, and what this store has seen."""
    return advertised.confirm({SIZE: size, CHUNK_COUNT: blocks}, at_ns=clock.now_ns())


def result_of(committed: CommitResult, plan: BlobWritePlan, stats: IngestStats) -> BlobWriteResult:
    """What the caller of a put gets."""
    record = committed.record
    locator = plan.locator_hint or blob_locator(record.key)
    return BlobWriteResult(
        record.key, locator, record.attributes, stats, record.chunker, committed.created, record.block_count
    )


def stat_of(record: BlobRecord) -> BlobStat:
    """A record as the port shows it."""
    return BlobStat(record.key, record.block_count, record.chunker, record.created_at_ns, record.attributes)


def blob_locator(key: BlobKey) -> Locator:
    """Where a blob is said to live: in the content-addressed store, under its name."""
    return Locator("cas", "blobs", f"{key.algo.value}/{key.hex}-{key.size}")


def check_claims(attributes: BinaryAttributes, key: BlobKey) -> None:
    """Compare what the client advertised with what arrived. Raises DigestMismatch."""
    advertised = attributes.advertised
    size = advertised.get(SIZE)
    if size is not None and size.value != key.size:
        raise DigestMismatch(f"{key.size} bytes arrived, not the {size.value} announced", operation="put")
    digest = attributes.digest(key.algo)
    if digest is not None and digest != key.digest:
        raise DigestMismatch(f"the bytes have digest {key.digest}, not the {digest} announced", operation="put")


def check_policy(policy: StorePolicy | None) -> None:
    """Raises Unsupported for what this store does not do."""
    if policy is None:
        return
    refused = {
        "framed layout": policy.layout is not BlobLayout.MONOLITHIC,
        "compression": policy.compression != Compression.NONE,
        "encryption": policy.encryption != Encryption.NONE,
    }
    for what, is_asked in refused.items():
        if is_asked:
            raise Unsupported(f"this store does not offer {what}", operation="put", hint="Leave it out of the policy.")


def warn_if_other(what: str, asked: str | None, made_with: str) -> None:
    """Warn of a hash or chunker that keeps what is put now from sharing blocks with the rest; None asks for nothing."""
    if asked is not None and asked != made_with:
        warnings.warn(
            f"this store was made with {what} {made_with}; {asked} is used now and shares no blocks with what is there",
            UserWarning,
            stacklevel=5,
        )


def _check_digest_algos(attributes: BinaryAttributes, algo: HashAlgo) -> None:
    """A claim by another algorithm than the blob's own cannot be checked in one pass. Raises InvalidInput."""
    others = [other for other in attributes.digests if other is not algo]
    if others:
        names = ", ".join(other.value for other in others)
        raise InvalidInput(
            f"a digest by {names} was announced, but the blob is hashed with {algo.value}",
            operation="put",
            hint="Announce a digest of the same algorithm, or choose the hash in the plan.",
        )
