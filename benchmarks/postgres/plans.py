"""The plans of the hot statements, as the server keeps them for our connections, written to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.postgres.work import Work, new_block
from graviton.backends.postgres._scripts import Last, Script, Statement
from graviton.backends.postgres.database import PgDatabase
from graviton.ports.kv import Durability

__all__ = ["write_plans"]

_T = TypeVar("_T")


class _Explained(PgDatabase):
    """Looks at the plan of each statement before it is run, and takes what that did back."""

    plans: dict[str, str]

    async def run(
        self,
        operation: str,
        script: Callable[[], Script[_T]],
        durability: Durability = Durability.FULL,
        *,
        repeats_lost: bool = True,
    ) -> _T:
        def explained() -> Script[_T]:
            running = script()
            batch = next(running)
            try:
                while True:
                    last = isinstance(batch, Last)
                    statements = batch.statements if isinstance(batch, Last) else batch
                    results = []
                    for statement in statements:
                        before, plan, back = yield _looked_at(statement)
                        self.plans.setdefault(
                            f"{operation}\n{statement.sql.strip()}", "\n".join(line for (line,) in plan.rows)
                        )
                        del before, back
                        results += yield [statement]
                    if last:
                        yield Last([])
                    batch = running.send(results)
            except StopIteration as done:
                result: _T = done.value
                return result

        return await super().run(operation, explained, durability, repeats_lost=repeats_lost)

    async def fetch(self, operation: str, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """See `PgDatabase.fetch`."""
        rows = await super().fetch(operation, f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) {sql}", values)
        self.plans.setdefault(f"{operation}\n{sql.strip()}", "\n".join(line for (line,) in rows))
        return await super().fetch(operation, sql, values)


def _looked_at(statement: Statement) -> list[Statement]:
    return [
        Statement("SAVEPOINT looked"),
        Statement(f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) {statement.sql}", statement.values),
        Statement("ROLLBACK TO SAVEPOINT looked"),
    ]


async def write_plans(work: Work, path: Path) -> None:
    """Run everything once more, and write what the server does for it. Raises AssertionError at a sequential scan."""
    database = _Explained(work.database.config)
    database.plans = {}
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
    for statement, plan in database.plans.items():
        assert "Seq Scan" not in plan, f"{statement}\n{plan}"
    parts = [f"== {statement}\n\n{plan}\n" for statement, plan in sorted(database.plans.items())]
    path.write_text(  # noqa: ASYNC240 - a benchmark has nobody else on its loop
        f"Plans at {work.blocks:,} blocks; written by benchmarks/postgres/bench.py.\n\n" + "\n".join(parts)
    )
