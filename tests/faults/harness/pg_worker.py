"""One of many processes that claim, commit, delete and end at random in one database: argv is conninfo, schema, seed,
seconds."""

from __future__ import annotations

import asyncio
import random
import sys
import time

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.config import parse_address
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.errors import Conflict, NotFound
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys, commit_of

BLOCKS = block_keys(24, "common")
DOMAINS = ("", "other")


def upload_of(draw: random.Random) -> Upload:
    """One of a few blobs, which share blocks."""
    number = draw.randrange(12)
    return Upload.of(BLOCKS[number : number + 1 + number % 5], f"blob {number}")


async def act(metadata: Metadata, draw: random.Random) -> None:
    """One operation."""
    upload, domain, holder = upload_of(draw), draw.choice(DOMAINS), draw.choice(["", "a", "b"])
    kind = draw.randrange(10)
    if kind < 4:
        await metadata.put(upload, holder=holder, domain=domain)
    elif kind < 6:
        await metadata.repo.delete(upload.key, holder, domain)
    elif kind == 6:
        await metadata.repo.undelete(upload.key, holder, domain)
    elif kind == 7:
        session = await metadata.session(draw.sample(BLOCKS, 6), domain)
        await metadata.index.claim(session, draw.sample(BLOCKS, 6))
        await metadata.index.end(session)
    elif kind == 8:
        session = await metadata.session(upload.blocks[:1], domain)
        await metadata.index.claim(session, upload.blocks)
        await metadata.repo.add_pages(session, upload.pages, upload.blocks)
        await metadata.repo.commit([commit_of(session, upload, pages=[], confirm=[])])
    else:
        for key, record in zip(upload.blocks, await metadata.index.records(upload.blocks, domain), strict=True):
            if record is not None:
                await metadata.index.mark_damaged(key, record.generation, domain)


async def main(address: str, seed: int, seconds: float) -> None:
    """Act until the time is over; how often is printed."""
    database = PgDatabase(parse_address(address, max_connections=3))
    metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
    until, counts = time.monotonic() + seconds, 0

    async def task(number: int) -> None:
        nonlocal counts
        draw = random.Random(seed * 100 + number)
        while time.monotonic() < until:
            try:
                await act(metadata, draw)
            except (Conflict, NotFound):
                pass  # somebody else was first: told, typed, and nothing half done
            counts += 1

    await asyncio.gather(*(task(number) for number in range(3)))
    await database.aclose()
    sys.stdout.write(f"{counts}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
