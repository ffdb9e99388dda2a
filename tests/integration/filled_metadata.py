"""Metadata with everything in it that it can hold, through its ports, whatever it lies in."""

from __future__ import annotations

import secrets

from graviton.core.locators import Locator
from graviton.core.ranges import Span
from graviton.ports.range_tracker import RangeTracker
from graviton.ports.replicas import ReplicaIndex, ReplicaState
from graviton.testing.conformance.checks import collect
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys

__all__ = ["fill", "fill_others", "others"]


async def fill(metadata: Metadata) -> None:
    """Blobs of all kinds in two domains: shared blocks, holders, deleted, replaced, sessions open and ended."""
    shared = block_keys(5, "shared")
    for domain in ("", "other", "ä-domain"):
        for number in range(6):
            blocks = [*shared, *block_keys(number * 3, f"{domain}{number}")]
            await metadata.put(Upload.of(blocks, f"{domain}{number}"), holder=f"h{number % 2}", domain=domain)
        await metadata.put(Upload.of(shared, "again"), domain=domain, holder="one")
        await metadata.put(Upload.of(shared, "again"), domain=domain, holder="two")
        await metadata.put(Upload.of([], "empty"), domain=domain)
        await metadata.repo.delete(Upload.of(shared, f"{domain}0").key, holder="h0", domain=domain)
        session = await metadata.session(block_keys(4, "open"), domain)
        await metadata.index.confirm(session, block_keys(2, "open"))
        await metadata.index.end(await metadata.session(block_keys(3, "ended"), domain))
    await metadata.index.condemn(secrets.token_hex(16), 6)


async def fill_others(replicas: ReplicaIndex, ranges: RangeTracker) -> None:
    """Copies of some keys, spans of some locators."""
    for number, key in enumerate(block_keys(30, "copied")):
        places = [Locator("s3", f"bucket-{copy}", f"path/{number}") for copy in range(1 + number % 3)]
        await replicas.update(key, places)
        await replicas.mark(key, places[-1], ReplicaState(1 + number % 4), 1000 + number)
    for number in range(5):
        spans = [Span(at * 10, at * 10 + 1 + number) for at in range(1 + 3 * number)]
        await ranges.merge_many(Locator("upload", "bucket", f"{number}"), spans)


async def others(replicas: ReplicaIndex, ranges: RangeTracker) -> list[object]:
    """Everything that those two tell."""
    return [
        await collect(replicas.short_of(3)),
        [await collect(replicas.in_sector(f"bucket-{copy}")) for copy in range(3)],
        await collect(replicas.oldest_verified()),
        [await ranges.current(Locator("upload", "bucket", f"{number}")) for number in range(5)],
    ]
