"""Policies and plans are checked values."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from graviton.core.attributes import CHUNK_COUNT, SIZE, BinaryAttributes
from graviton.core.locators import Locator
from graviton.core.policies import (
    MAX_PART_BYTES,
    MIN_PART_BYTES,
    AeadMode,
    BlobLayout,
    BlobWritePlan,
    Compression,
    CompressionMethod,
    Encryption,
    ReplicationMode,
    StorePolicy,
)
from graviton.errors import InvalidInput

EMPTY = BinaryAttributes.EMPTY


def test_the_default_policy_stores_plain_objects_everywhere_at_once() -> None:
    policy = StorePolicy()
    assert (policy.layout, policy.replication) == (BlobLayout.MONOLITHIC, ReplicationMode.SYNC_ALL)
    assert (policy.compression, policy.encryption) == (Compression.NONE, Encryption.NONE)
    assert policy.min_part_size == MIN_PART_BYTES == 5 * 1024 * 1024


def test_the_default_plan_leaves_all_to_the_store() -> None:
    plan = BlobWritePlan()
    assert (plan.policy, plan.chunker, plan.locator_hint, plan.hash) == (None, None, None, None)
    assert (plan.domain, plan.holder, plan.attributes) == ("", "", EMPTY)


@pytest.mark.parametrize(
    "make",
    [
        lambda: StorePolicy(min_part_size=MIN_PART_BYTES - 1),
        lambda: StorePolicy(min_part_size=MAX_PART_BYTES + 1),
        lambda: Compression.zstd(-2),
        lambda: Compression.zstd(23),
        lambda: Compression(CompressionMethod.NONE, 3),
        lambda: Encryption(None, "key-1"),
        lambda: Encryption(AeadMode.AES_256_GCM, "abc"),
        lambda: Encryption(AeadMode.AES_256_GCM, "a" * 129),
        lambda: Encryption(AeadMode.AES_256_GCM, "key 1"),
        lambda: BlobWritePlan(domain="a\nb"),
        lambda: BlobWritePlan(holder="a" * 129),
        lambda: BlobWritePlan(EMPTY.confirm({SIZE: 1}, at_ns=0)),
        lambda: BlobWritePlan(EMPTY.advertise({SIZE: 1, CHUNK_COUNT: 2}, at_ns=0)),
    ],
)
def test_an_impossible_policy_or_plan_is_invalid_input(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidInput):
        make()


def test_policies_are_values() -> None:
    policy = StorePolicy(
        BlobLayout.FRAMED,
        MAX_PART_BYTES,
        ReplicationMode.SYNC_QUORUM,
        Compression.zstd(19),
        Encryption(AeadMode.XCHACHA20_POLY1305, "key-1"),
    )
    plan = BlobWritePlan(EMPTY.advertise({SIZE: 1}, at_ns=0), policy, None, Locator("s3", "b", "p"), None, "d", "h")
    for value in (policy, plan, policy.compression, policy.encryption):
        same = pickle.loads(pickle.dumps(value))
        assert same == value
        assert hash(same) == hash(value)
    assert plan.replace(domain="e").domain == "e"
    assert plan.replace(domain="e") != plan
    assert plan.replace(domain="e").replace(domain="d") == plan
    with pytest.raises(InvalidInput):
        plan.replace(domain="\n")
    with pytest.raises(AttributeError, match="immutable"):
        plan.domain = "e"
    assert "key-1" in repr(plan)
