"""Sixteen processes that claim, commit, delete and end the same keys at once: in the end all rows fit together."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys

import pytest

from graviton.backends.postgres.block_index import PgBlockIndex
from graviton.backends.postgres.database import PgDatabase
from graviton.backends.postgres.manifest_repo import PgBlobManifestRepo
from graviton.backends.postgres.rows.store import PgMetadataRows
from graviton.metadata.audit import audit
from graviton.ports.block_index import BlockState
from tests.faults.harness.bench import Reach
from tests.faults.harness.pg_worker import BLOCKS, DOMAINS
from tests.postgres_schemas import drop_schema, make_schema
from tests.postgres_server import server

PROCESSES = 16
SECONDS = (4.0, 6.0)
"""The second is for the long form."""


@pytest.mark.parametrize("killed", [0, 6], ids=["all-end", "some-are-killed"])
async def test_many_processes_on_the_same_keys(reach: Reach, killed: int) -> None:
    seconds = SECONDS[reach.is_long]
    schema = f"many_{secrets.token_hex(8)}"
    await make_schema(server(), schema)
    try:
        children = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.faults.harness.pg_worker",
                server().url(schema),
                str(number),
                str(seconds),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            for number in range(PROCESSES)
        ]
        for child in children[:killed]:
            await asyncio.sleep(seconds / (2 * killed) + 0.2)
            child.send_signal(signal.SIGKILL)
        outcomes = await asyncio.gather(*(child.communicate() for child in children))
        for child, (_, errors) in list(zip(children, outcomes, strict=True))[killed:]:
            assert child.returncode == 0, errors.decode()
        assert sum(int(out or 0) for out, _ in outcomes) > PROCESSES * 10
        await check(schema)
    finally:
        await drop_schema(server(), schema)


async def check(schema: str) -> None:
    """Everything that `verify --all` checks of the metadata, and what only a snapshot of all rows can show."""
    database = PgDatabase(server().config(schema))
    index, repo = PgBlockIndex(database), PgBlobManifestRepo(database)
    assert [finding async for finding in audit(PgMetadataRows(database))] == []
    for domain in DOMAINS:
        for record in await repo.list(domain=domain):
            async for page in repo.pages(record, domain=domain):
                for block in await index.records(list(page.keys), domain):
                    assert block is not None
                    assert block.state in (BlockState.STORED, BlockState.DAMAGED, BlockState.PENDING)
        for key in BLOCKS:
            [block] = await index.records([key], domain)
            assert block is None or block.generation > 0
    wrong = await database.fetch(
        "test",
        "SELECT o.id FROM owners o WHERE o.state = 1 AND o.unconfirmed <>"
        " (SELECT count(*) FROM refs r WHERE r.owner_id = o.id AND r.kind = 2)",
    )
    assert wrong == []
    await database.aclose()
