"""Block frames: plain ones are numbered and described, others are refused."""

from __future__ import annotations

import pytest

from graviton.core.frames import BlockFrame, BlockFramer, FrameAlgorithm, FrameContext
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlockKey
from graviton.core.policies import AeadMode, BlobLayout, Compression, Encryption, StorePolicy
from graviton.errors import InvalidInput, Unsupported

KEY = BlockKey(HashAlgo.SHA256.digest(b"hello"), 5)


def test_a_framer_numbers_the_blocks_of_one_write() -> None:
    context = FrameContext(domain="team", policy_tag="plain")
    framer = BlockFramer(context=context)
    frames = [framer.frame(KEY), framer.frame(KEY)]
    assert [frame.index for frame in frames] == [0, 1]
    assert frames[1] == BlockFrame(1, KEY, 5, FrameAlgorithm.PLAIN, context)
    assert frames[0] != frames[1]


@pytest.mark.parametrize(
    "policy",
    [
        StorePolicy(layout=BlobLayout.FRAMED),
        StorePolicy(compression=Compression.zstd()),
        StorePolicy(encryption=Encryption(AeadMode.AES_256_GCM, "key-1")),
    ],
    ids=["packed", "compressed", "encrypted"],
)
def test_a_framer_refuses_what_does_not_exist_yet(policy: StorePolicy) -> None:
    with pytest.raises(Unsupported, match="do not exist yet"):
        BlockFramer(policy)


@pytest.mark.parametrize(("index", "length"), [(-1, 5), (0, -1), (0, 4), (0, 6)])
def test_a_plain_frame_is_as_long_as_its_block(index: int, length: int) -> None:
    with pytest.raises(InvalidInput):
        BlockFrame(index, KEY, length)


def test_the_payload_of_another_form_may_have_another_length() -> None:
    assert BlockFrame(0, KEY, 33, FrameAlgorithm.ENCRYPTED).payload_length == 33


def test_a_context_has_legal_names() -> None:
    with pytest.raises(InvalidInput, match="policy tag"):
        FrameContext(policy_tag="\n")
