"""A transaction on the rows of all namespaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Any

from graviton.backends.postgres._blocking import Connection
from graviton.backends.postgres._outcomes import NUMBER
from graviton.backends.postgres.domains import NO_DOMAIN
from graviton.backends.postgres.kv import PgTransaction
from graviton.backends.postgres.rows._tables import TABLES, Table
from graviton.core.names import decode_name, encode_name
from graviton.errors import InvalidInput
from graviton.ports.kv import MAX_KEY_BYTES, check_key, check_namespace, prefix_end

__all__ = ["RowsTransaction"]

_SCAN_ROWS = 512
"""Rows per statement of a scan."""


class RowsTransaction(PgTransaction):
    """Rows of `TABLES` from their tables, all others from `kv`."""

    @property
    def connection(self) -> Connection:
        """What it runs on."""
        return self._connection

    def get(self, namespace: str, key: bytes) -> bytes | None:
        """See `ReadTransaction`."""
        return self.get_many(namespace, [key])[0]

    def get_many(self, namespace: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `ReadTransaction`."""
        table = _table(namespace)
        if table is None:
            return super().get_many(namespace, keys)
        found: dict[bytes, bytes] = {}
        for domain, number, rows in self._by_domain(table, keys, make=False):
            names = table.names[: len(table.key)]
            pairs = " AND ".join(f"{column} = wanted.{name}" for column, name in zip(table.key, names, strict=True))
            sql = (
                f"WITH wanted AS ({_unnest(table, names)})"
                f" SELECT {', '.join(table.key)}, {table.select.replace(' WHERE ', ' CROSS JOIN wanted WHERE ', 1)}"
                f" AND {pairs}"
            )
            for row in self._connection.execute(sql, _arrays(names, rows) | {"domain_id": number}, binary=True):
                found[domain + table.layout.encode(row[: len(table.key)])] = table.encode(row)
        return [found.get(key) for key in keys]

    def _scan(self, namespace: str, prefix: bytes, after: bytes, limit: int | None) -> Iterator[tuple[bytes, bytes]]:
        table = _table(namespace)
        if table is None:
            yield from super()._scan(namespace, prefix, after, limit)
            return
        left = limit
        for domain, number in self._domains() if table.has_domain else [(b"", NO_DOMAIN)]:
            inside, below = _within(prefix, domain), after
            if inside is None or (domain and below > domain and not below.startswith(domain)):
                continue  # the domain has no such keys, or all of it lies before `after`
            below = below[len(domain) :] if domain and below.startswith(domain) else (b"" if domain else below)
            for key, value in self._scan_table(table, number, inside, below, left):
                yield domain + key, value
                left = None if left is None else left - 1
            if left == 0:
                return

    def _scan_table(
        self, table: Table, number: int, prefix: bytes, after: bytes, limit: int | None
    ) -> Iterator[tuple[bytes, bytes]]:
        columns = ", ".join(table.key)
        upper = prefix_end(prefix) if prefix else None
        left, begin, inclusive = limit, max(prefix, after), not after or prefix > after
        while left is None or left > 0:
            wanted = _SCAN_ROWS if left is None else min(left, _SCAN_ROWS)
            bounds = [table.layout.above(begin, inclusive)]
            if upper is not None:
                bounds.append(table.layout.below(upper))
            values: dict[str, Any] = {"domain_id": number, "limit": wanted}
            conditions = []
            for place, bound in enumerate(bounds):
                names = [f"bound{place}_{at}" for at in range(len(bound.values))]
                values |= dict(zip(names, bound.values, strict=True))
                typed = [f"%({name})s::{part.sql_type}" for name, part in zip(names, table.layout.parts, strict=True)]
                conditions.append(f"({columns}) {bound.operator} ({', '.join(typed)})")
                if table.leading:  # true if that is true, and within what one index knows
                    known = f"({', '.join(table.key[: table.leading])})"
                    conditions.append(f"{known} {bound.operator[0]}= ({', '.join(typed[: table.leading])})")
            sql = f"SELECT {columns}, {table.select} AND {' AND '.join(conditions)} ORDER BY {columns} LIMIT %(limit)s"
            rows = self._connection.execute(sql, values, binary=True).fetchall()
            for row in rows:
                yield table.layout.encode(row[: len(table.key)]), table.encode(row)
            if len(rows) < wanted:
                return
            begin, inclusive = table.layout.encode(rows[-1][: len(table.key)]), False
            left = None if left is None else left - len(rows)

    def put_many(self, namespace: str, items: Sequence[tuple[bytes, bytes]]) -> None:
        """See `Transaction`. Rows that follow from others (`claims`) are passed over."""
        table = _table(namespace)
        if table is None:
            super().put_many(namespace, items)
            return
        self._number()
        new = dict(items)
        for _, number, rows in self._by_domain(table, list(new), make=True):
            full = [(*columns, *table.decode(columns, new[key])) for key, columns in rows.items()]
            types = (*(part.sql_type for part in table.layout.parts), *table.types)
            self._each(table.put, "new", table.names, types, full, number)

    def _delete(self, namespace: str, keys: Sequence[bytes]) -> int:
        table = _table(namespace)
        if table is None:
            return super()._delete(namespace, keys)
        self._number()
        count = 0
        for _, number, rows in self._by_domain(table, keys, make=False):
            names = table.names[: len(table.key)]
            types = [part.sql_type for part in table.layout.parts]
            count += self._each(table.delete, "gone", names, types, list(rows.values()), number)
        return count

    def delete_range(self, namespace: str, start: bytes, end: bytes | None = None) -> None:
        """See `Transaction`. Rows of `TABLES` a page at a time: their key is of several columns, in several domains."""
        if _table(namespace) is None:
            super().delete_range(namespace, start, end)
            return
        self._writable()
        page = [start] if 0 < len(start) <= MAX_KEY_BYTES and (end is None or start < end) else []
        after = start
        while True:
            self._delete(namespace, page)
            pairs = takewhile(lambda pair: end is None or pair[0] < end, self.scan(namespace, after=after))
            page = [key for key, _ in islice(pairs, _SCAN_ROWS)]
            if not page:
                return
            after = page[-1]

    def _number(self) -> None:
        """Before the first change: our statements are many and do not tell it."""
        changes = self._writable()
        if changes.transaction is None:
            row = self._connection.execute(f"SELECT {NUMBER}").fetchone()
            assert row is not None
            (changes.transaction,) = row

    def _each(
        self,
        statements: Sequence[str],
        name: str,
        columns: Sequence[str],
        types: Sequence[str],
        rows: Sequence[Sequence[Any]],
        number: int,
    ) -> int:
        """Run statements over rows; how many the last of them changed."""
        arrays = dict(zip(columns, (list(column) for column in zip(*rows, strict=True)), strict=True))
        source = ", ".join(f"%({column})s::{type_}[]" for column, type_ in zip(columns, types, strict=True))
        count = 0
        for statement in statements:
            sql = f"WITH {name} AS (SELECT * FROM unnest({source}) AS x({', '.join(columns)})) {statement}"
            count = self._connection.execute(sql, arrays | {"domain_id": number}).rowcount
        return count

    def _by_domain(
        self, table: Table, keys: Sequence[bytes], make: bool
    ) -> Iterator[tuple[bytes, int, dict[bytes, list[Any]]]]:
        """Columns of the keys by key, domain by domain. Keys that cannot be there are passed over."""
        groups: dict[bytes, dict[bytes, list[Any]]] = {}
        for key in keys:
            check_key(key)
            domain = key[: key.find(0) + 1] if table.has_domain else b""
            try:
                groups.setdefault(domain, {})[key] = table.layout.decode(key[len(domain) :])
            except (InvalidInput, UnicodeDecodeError):
                if make:
                    raise
        known = dict(self._domains(make=list(groups) if make else [])) if table.has_domain else {b"": NO_DOMAIN}
        for domain, columns in groups.items():
            if domain in known and columns:
                yield domain, known[domain], columns

    def _domains(self, make: Sequence[bytes] = ()) -> list[tuple[bytes, int]]:
        """The key prefix and the number of every domain, in the order of keys; those of `make` are made."""
        if make:
            names = sorted(decode_name(domain)[0] for domain in make)
            self._connection.execute(
                "INSERT INTO domains (name) SELECT * FROM unnest(%s::text[]) ON CONFLICT DO NOTHING", [names]
            )
        rows = self._connection.execute("SELECT name, id FROM domains ORDER BY name").fetchall()
        return [(encode_name(name), number) for name, number in rows]


def _table(namespace: str) -> Table | None:
    check_namespace(namespace)
    return TABLES.get(namespace)


def _within(prefix: bytes, domain: bytes) -> bytes | None:
    """The rest of `prefix` inside of a domain; None if no key of the domain begins with it."""
    if prefix.startswith(domain):
        return prefix[len(domain) :]
    return b"" if domain.startswith(prefix) else None


def _unnest(table: Table, names: Sequence[str]) -> str:
    source = ", ".join(f"%({name})s::{part.sql_type}[]" for name, part in zip(names, table.layout.parts, strict=True))
    return f"SELECT * FROM unnest({source}) AS x({', '.join(names)})"


def _arrays(names: Sequence[str], rows: dict[bytes, list[Any]]) -> dict[str, Any]:
    return dict(zip(names, (list(column) for column in zip(*rows.values(), strict=True)), strict=True))
