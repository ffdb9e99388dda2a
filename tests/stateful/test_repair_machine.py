"""Blocks go bad, reads notice, puts with whatever chunker repair: no sequence of these loses a blob for good.

Every read that fails marks at least one bad block, and the put after it must get rid of each that is marked. So a blob
reads back after at most as many rounds of both as there are bad blocks.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import graviton
from graviton.core.chunking import ChunkerSpec
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan

_T = TypeVar("_T")

_NOISE = random.Random(7).randbytes(4_000)
BLOBS = [_NOISE, _NOISE[:3_000], _NOISE[1_024:], _NOISE[:700]]
"""They share blocks under some of the chunkers, and not under others."""

CHUNKERS = [ChunkerSpec.parse(f"fixed-v1:{size}") for size in (512, 1_024, 4_096)]
CHUNKERS.append(ChunkerSpec.parse("w16-v1:256:1024:4096"))
CUTS = st.integers(0, len(CHUNKERS) - 1)


class RepairMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="graviton-machine-"))
        self.loop = asyncio.Runner()
        self.there: dict[BlobKey, bytes] = {}
        self.damages = 0

    def run_(self, call: Coroutine[Any, Any, _T]) -> _T:
        return self.loop.run(call)

    @initialize()
    def open(self) -> None:
        async def opened() -> graviton.Store:
            return graviton.open(self.folder / "store")

        self.store = self.run_(opened())

    @rule(which=st.integers(0, len(BLOBS) - 1), cut=CUTS, streamed=st.booleans())
    def put(self, which: int, cut: int, streamed: bool) -> None:
        data = BLOBS[which]
        source = bytearray(data) if streamed else data
        self.there[self.run_(self.store.put(source, BlobWritePlan(chunker=CHUNKERS[cut]))).key] = data

    @precondition(lambda self: self.there)
    @rule(pick=st.integers(0, 10_000), remove=st.booleans())
    def damage(self, pick: int, remove: bool) -> None:
        files = sorted((self.folder / "store/cas/blocks/blake3").iterdir())
        if not files:
            return
        path = files[pick % len(files)]
        size = path.stat().st_size
        path.unlink()
        if not remove:
            path.write_bytes(bytes(size))
        self.damages += 1

    @precondition(lambda self: self.there)
    @rule(pick=st.integers(0, 100))
    def read(self, pick: int) -> None:
        self.run_(self._reads(self._picked(pick)))

    @precondition(lambda self: self.there)
    @rule(pick=st.integers(0, 100))
    def delete(self, pick: int) -> None:
        key = self._picked(pick)
        assert self.run_(self.store.delete(key))
        del self.there[key]

    @precondition(lambda self: self.there)
    @rule(pick=st.integers(0, 100), cuts=st.lists(CUTS, min_size=1, max_size=4))
    def heal(self, pick: int, cuts: list[int]) -> None:
        key = self._picked(pick)
        for turn in range(self.damages + 1):
            if self.run_(self._reads(key)):
                return
            self.run_(self.store.put(self.there[key], BlobWritePlan(chunker=CHUNKERS[cuts[turn % len(cuts)]])))
        assert self.run_(self._reads(key)), "putting the file again did not repair it"

    def _picked(self, pick: int) -> BlobKey:
        return sorted(self.there)[pick % len(self.there)]

    async def _reads(self, key: BlobKey) -> bool:
        try:
            async with await self.store.get(key) as reader:
                assert await reader.read() == self.there[key]
        except graviton.IntegrityError:
            return False
        return True

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run_(self.store.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)


TestRepair = RepairMachine.TestCase
TestRepair.settings = settings(stateful_step_count=12, max_examples=50)
