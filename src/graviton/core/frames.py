"""Block frames as values in memory: what a stored block is wrapped in, told as facts about it.

A frame says at which place of which write a block stands and how its payload is stored. There is no wire format: one
comes with docs/formats/frame.md, and until then nothing may store a frame. Only *plain* frames exist, one per block,
the payload as it is; a `BlockFramer` asked for more raises Unsupported. A frame holds no payload, so that the result of
a large write does not keep its blocks in memory.
"""

from __future__ import annotations

from enum import Enum

from graviton.core._frozen import Frozen, set_field
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.limits import MAX_SIZE
from graviton.core.names import check_name
from graviton.core.policies import BlobLayout, Compression, Encryption, StorePolicy
from graviton.errors import InvalidInput, Unsupported

__all__ = ["BlockFrame", "BlockFramer", "FrameAlgorithm", "FrameContext"]


class FrameAlgorithm(Enum):
    """What was done to a payload. The values are the tags of the ancestor's frame header."""

    PLAIN = 0
    COMPRESSED = 1
    ENCRYPTED = 2
    COMPRESSED_THEN_ENCRYPTED = 3


class FrameContext(Frozen):
    """What all frames of one write share; authenticated with the payload once encryption exists."""

    __slots__ = ("blob", "domain", "policy_tag")
    __match_args__ = ("blob", "domain", "policy_tag")
    blob: BlobKey | None
    domain: str
    policy_tag: str

    def __init__(self, blob: BlobKey | None = None, domain: str = "", policy_tag: str = "") -> None:
        """`blob` is None while its key is not known yet; both texts follow names.py. Raises InvalidInput."""
        check_name(domain, "domain")
        check_name(policy_tag, "policy tag")
        set_field(self, "blob", blob)
        set_field(self, "domain", domain)
        set_field(self, "policy_tag", policy_tag)


class BlockFrame(Frozen):
    """The frame of one block."""

    __slots__ = ("algorithm", "context", "index", "key", "payload_length")
    __match_args__ = ("index", "key", "payload_length", "algorithm", "context")
    index: int
    key: BlockKey
    payload_length: int
    algorithm: FrameAlgorithm
    context: FrameContext

    def __init__(
        self,
        index: int,
        key: BlockKey,
        payload_length: int,
        algorithm: FrameAlgorithm = FrameAlgorithm.PLAIN,
        context: FrameContext | None = None,
    ) -> None:
        """`index` counts the blocks of the write from 0; `payload_length` is bytes as stored.

        Raises InvalidInput if one is out of bounds, or if a plain payload is not as long as its block.
        """
        if not 0 <= index <= MAX_SIZE:
            raise InvalidInput(f"a block index is 0 or more, not {index}")
        if not 0 <= payload_length <= MAX_SIZE:
            raise InvalidInput(f"a payload has 0 to {MAX_SIZE} bytes, not {payload_length}")
        if algorithm is FrameAlgorithm.PLAIN and payload_length != key.size:
            raise InvalidInput(f"a plain frame of a block of {key.size} bytes has no payload of {payload_length}")
        set_field(self, "index", index)
        set_field(self, "key", key)
        set_field(self, "payload_length", payload_length)
        set_field(self, "algorithm", algorithm)
        set_field(self, "context", FrameContext() if context is None else context)


class BlockFramer:
    """Makes the frames of one write. Not for use by two threads at once."""

    __slots__ = ("_context", "_next")

    def __init__(self, policy: StorePolicy | None = None, context: FrameContext | None = None) -> None:
        """Raises Unsupported for a policy that packs, compresses or encrypts."""
        policy = StorePolicy() if policy is None else policy
        _refuse(policy.layout is not BlobLayout.MONOLITHIC, f"layout {policy.layout.value}")
        _refuse(policy.compression != Compression.NONE, f"compression {policy.compression.method.value}")
        _refuse(policy.encryption != Encryption.NONE, "encryption")
        self._context = FrameContext() if context is None else context
        self._next = 0

    def frame(self, key: BlockKey) -> BlockFrame:
        """The plain frame of the next block of the write."""
        made = BlockFrame(self._next, key, key.size, FrameAlgorithm.PLAIN, self._context)
        self._next += 1
        return made


def _refuse(wanted: bool, what: str) -> None:
    if wanted:
        raise Unsupported(f"block frames with {what} do not exist yet", operation="frame")
