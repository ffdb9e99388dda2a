"""The hash of an upload that goes on from request to request, kept in the memory of the server that cuts its bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from graviton.core.buffers import Buffer
from graviton.core.chunking.ingest import Ingest
from graviton.services.uploads.values import Checksum, ChecksumAlgo, UploadId, hasher

__all__ = ["HashState", "HashStates", "Hashes"]

MAX_STATES = 1000
"""Uploads whose hashes are kept, some 5 KB each; of others what is stored is read once more when they are finished."""


class Hashes:
    """Digests of a whole upload: the one of its key, and those that were claimed."""

    def __init__(self, raw: bytes, claimed: dict[ChecksumAlgo, bytes]) -> None:
        self.raw = raw
        self.claimed = claimed


class HashState:
    """An `Ingest` that may be given less at first than it has seen before, and that hashes what was claimed too."""

    def __init__(self, ingest: Ingest, begins_at: int, claims: Sequence[Checksum]) -> None:
        """`begins_at` is where the first block to be cut begins; only from 0 on the hashes are those of the whole."""
        self.decided = begins_at
        """Bytes of the upload up to the last cut."""
        self._is_whole = begins_at == 0
        self._ingest = ingest
        self._undecided = 0
        self._is_final = False
        self._claimed = {claim.algo: hasher(claim.algo) for claim in claims} if self._is_whole else {}

    def feed(self, segment: Buffer, final: bool = False) -> tuple[list[int], list[bytes]]:
        """See `Ingest.feed`. What was undecided before comes again piece by piece, and is only looked at when all of it
        is there."""
        view = memoryview(segment)
        if len(view) < self._undecided and not final:
            return [], []
        lengths, digests = self._ingest.feed(segment, final)
        used = sum(lengths)
        for one in self._claimed.values():
            one.update(view[:used])
        self.decided += used
        self._undecided = len(view) - used
        self._is_final = final
        return lengths, digests

    def finish(self) -> tuple[bytes, int]:
        """See `Ingest.finish`."""
        return self._ingest.finish()

    def hashes(self, length: int) -> Hashes | None:
        """Those of the whole upload, if every byte of it was seen here."""
        if not self._is_whole or not self._is_final or self.decided != length:
            return None
        raw, _ = self._ingest.finish()
        return Hashes(raw, {algo: one.digest() for algo, one in self._claimed.items()})


class HashStates:
    """The states of the uploads that were used last."""

    def __init__(self) -> None:
        self._states: OrderedDict[UploadId, HashState] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    def take(self, id: UploadId, cut_to: int) -> HashState | None:
        """The state of an upload, if it is at `cut_to`. Nobody else has it meanwhile: whoever fails loses it."""
        state = self._states.pop(id, None)
        return state if state is not None and state.decided == cut_to else None

    def keep(self, id: UploadId, state: HashState) -> None:
        """Remember a state for the next request."""
        self._states[id] = state
        self._states.move_to_end(id)
        if len(self._states) > MAX_STATES:
            self._states.popitem(last=False)

    def drop(self, id: UploadId) -> None:
        """Forget an upload."""
        self._states.pop(id, None)
