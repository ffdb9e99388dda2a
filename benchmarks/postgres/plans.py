"""The plans of the hot statements, as the server keeps them for our connections, written to a file."""

from __future__ import annotations

from pathlib import Path

from benchmarks.postgres.work import Work, new_block
from graviton.core.manifests import MAX_PAGE_ENTRIES
from tests.postgres_plans import Explained

__all__ = ["write_plans"]

_MAX_BUFFERS = 100 * MAX_PAGE_ENTRIES
"""Pages that a statement about one page of a manifest may touch. To confirm a block takes thirty: a record is found by
its key, a claim by its pair, and both are written. To go through ten million of anything would take as many."""


async def write_plans(work: Work, path: Path) -> None:
    """Run everything once more, and write what the server does for it. Raises AssertionError where it goes through a
    table or an index; tests/unit/postgres/test_plans_of_large_tables.py looks closer."""
    database = Explained(work.database.config)
    looked = Work(database, work.blocks, seed=1)
    key = await looked.put(looked.old(500) + [new_block() for _ in range(500)])
    await looked.put_one()
    await looked.stat()
    await looked.list_hundred()
    await looked.page()
    await looked.index.records(looked.old(10))
    await looked.index.mark_damaged(looked.old(1)[0], 1)
    await looked.repo.delete(key)
    await looked.repo.undelete(key)
    await looked.claim_known()
    await database.aclose()
    plans: dict[str, str] = {}
    for look in database.looks:
        assert not look.sequential, look
        assert look.buffers <= _MAX_BUFFERS, look
        plans.setdefault(f"{look.operation}\n{look.sql}", look.plan)
    parts = [f"== {statement}\n\n{plan}\n" for statement, plan in sorted(plans.items())]
    path.write_text(  # noqa: ASYNC240 - a benchmark has nobody else on its loop
        f"Plans at {work.blocks:,} blocks; written by benchmarks/postgres/bench.py.\n\n" + "\n".join(parts)
    )
