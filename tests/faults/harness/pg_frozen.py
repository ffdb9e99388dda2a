"""Processes that each put a blob and stop themselves (SIGSTOP) before a statement of it: `URL NAME STATEMENT ...`.

One process per number; it says `STATEMENT PID`, stops, and ends well if it has put its blob after all when it goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from psycopg import AsyncConnection

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.config import parse_address
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.testing.conformance.metadata_values import Metadata, Upload, block_keys

HOLDER = "frozen"


def upload_of(statement: int) -> Upload:
    """What that process puts."""
    return Upload.of(block_keys(3, f"{statement}"), f"{statement}")


async def put_and_stop(url: str, statement: int) -> None:
    database = PgDatabase(parse_address(url))
    metadata = Metadata(PgBlockIndex(database), PgBlobManifestRepo(database))
    upload = upload_of(statement)
    await metadata.repo.get(upload.key)
    left = statement
    execute = AsyncConnection.execute

    async def stopping(self: AsyncConnection[Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left == -1:
            sys.stdout.write(f"{statement} {os.getpid()}\n")
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGSTOP)
        return await execute(self, *args, **kwargs)

    AsyncConnection.execute = stopping  # type: ignore[method-assign]
    await metadata.put(upload, holder=HOLDER)
    assert left < 0, "a put has fewer statements"
    await database.aclose()


if __name__ == "__main__":
    url, *statements = sys.argv[1:]
    children = []
    for statement in statements:
        child = os.fork()
        if not child:
            asyncio.run(put_and_stop(url, int(statement)))
            sys.exit(0)
        children.append(child)
    results = [os.waitpid(child, 0)[1] for child in children]
    sys.exit(any(results))
