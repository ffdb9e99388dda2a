"""A database that looks at the plan of every statement before it is run, as our connections get it from the server.

Statements are prepared and explained as such: with the values known the planner may find another way than the one that
a connection keeps (docs/decisions/0021). What a look changes is taken back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from psycopg.sql import Literal

from graviton.backends.postgres._arrays import Bigints, Byteas, Integers, Smallints, Texts
from graviton.backends.postgres._scripts import Last, Script, Statement
from graviton.backends.postgres.database import PgDatabase
from graviton.ports.kv import Durability

__all__ = ["Explained", "Look"]

_T = TypeVar("_T")

_EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF)"

_HAS_A_PLAN = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")

_PARAMETER = re.compile(r"%(?:\((\w+)\))?b")

_TYPES = {
    Smallints: "smallint[]",
    Integers: "integer[]",
    Bigints: "bigint[]",
    Byteas: "bytea[]",
    Texts: "text[]",
    bytes: "bytea",
    str: "text",
    bool: "boolean",
}


class Look(NamedTuple):
    """The plan of one statement, and what running it took."""

    operation: str
    sql: str
    plan: str
    """As EXPLAIN writes it."""

    @property
    def sequential(self) -> set[str]:
        """Tables that are read whole."""
        return set(re.findall(r"Seq Scan on (\w+)", self.plan))

    @property
    def indexes(self) -> set[tuple[str, bool]]:
        """Indexes, and whether the statement says where in them its rows begin and end: if not, it walks along."""
        found = set()
        for node in self.plan.split("->"):
            for name in re.findall(r"Index (?:Only )?Scan (?:Backward )?(?:using|on) (\w+)", node):
                found.add((name, "Index Cond:" in node))
        return found

    @property
    def rows(self) -> int:
        """Rows that it found, or gave back."""
        match = re.search(r"actual rows=([0-9]+)", self.plan)
        return int(match[1]) if match else 0

    @property
    def buffers(self) -> int:
        """Pages of tables and indexes that running it touched, each as often as it did."""
        return max(
            (
                sum(int(count) for count in re.findall(r"(?:hit|read)=([0-9]+)", line))
                for line in re.findall(r"Buffers: shared.*", self.plan.partition("\nPlanning:")[0])
            ),
            default=0,
        )


class Explained(PgDatabase):
    """Keeps what it has looked at in `looks`. Functions given to `transact` are not seen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.looks: list[Look] = []
        self._count = 0

    async def run(
        self,
        operation: str,
        script: Callable[[], Script[_T]],
        durability: Durability = Durability.FULL,
        *,
        repeats_lost: bool = True,
    ) -> _T:
        return await super().run(
            operation, lambda: self._seen(operation, script()), durability, repeats_lost=repeats_lost
        )

    async def fetch(self, operation: str, sql: str, values: Any = ()) -> list[tuple[Any, ...]]:
        await self.look(operation, Statement(sql, values))
        return await super().fetch(operation, sql, values)

    async def fetch_all(self, operation: str, statements: Sequence[Statement]) -> list[list[tuple[Any, ...]]]:
        for statement in statements:
            await self.look(operation, statement)
        return await super().fetch_all(operation, statements)

    async def look(self, operation: str, statement: Statement) -> None:
        """Look at a statement that is not run."""
        await super().run(operation, lambda: self._look(operation, statement))

    def _seen(self, operation: str, script: Script[_T]) -> Script[_T]:
        batch = next(script)
        try:
            while True:
                results = []
                for statement in batch.statements if isinstance(batch, Last) else batch:
                    yield from self._look(operation, statement)
                    results += yield [statement]
                if isinstance(batch, Last):
                    yield Last([])
                batch = script.send(results)
        except StopIteration as done:
            result: _T = done.value
            return result

    def _look(self, operation: str, statement: Statement) -> Script[None]:
        if not statement.sql.lstrip().startswith(_HAS_A_PLAN):
            return
        self._count += 1
        name = f"looked_{self._count}"
        sql, types, values = _numbered(statement)
        execute = f"EXECUTE {name}{values}".replace("%", "%%")
        results = yield [
            Statement("SAVEPOINT looked"),
            Statement(f"PREPARE {name}{types} AS {sql}"),
            Statement(f"{_EXPLAIN} {execute}"),
            Statement("ROLLBACK TO SAVEPOINT looked"),
            Statement(f"DEALLOCATE {name}"),
        ]
        self.looks.append(Look(operation, statement.sql.strip(), "\n".join(line for (line,) in results[2].rows)))


def _numbered(statement: Statement) -> tuple[str, str, str]:
    """A statement with $1, $2 …; their types, as the driver sends them, and their values, in parentheses."""
    given = statement.values
    values: list[Any] = []
    places: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        name = match[1] or f"#{len(places)}"
        if name not in places:
            places[name] = len(values) + 1
            values.append(given[name] if isinstance(given, Mapping) else given[len(values)])
        return f"${places[name]}"

    sql = _PARAMETER.sub(number, statement.sql)
    return sql, _in_parentheses([_type(one) for one in values]), _in_parentheses([_literal(one) for one in values])


def _in_parentheses(parts: Sequence[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"ARRAY[{', '.join(_literal(one) for one in value)}]::{_type(value)}"
    return Literal(value).as_string(None)


def _type(value: Any) -> str:
    if type(value) is int:
        return "smallint" if abs(value) < 2**15 else "integer" if abs(value) < 2**31 else "bigint"
    if type(value) is list:
        return f"{_type(value[0])}[]"
    return _TYPES[type(value)]
