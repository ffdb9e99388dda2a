"""`graviton db`: the tables of a store whose metadata lies in PostgreSQL."""

from __future__ import annotations

from contextlib import aclosing

import click

from graviton.cli.call import Call
from graviton.cli.options import command, common_options, parsed

__all__ = ["db"]


@click.group()
@common_options
def db() -> None:
    """Migrate the database of the metadata, show what it has, or remove old events from it."""


@command()
async def migrate(call: Call) -> None:
    """Make the tables, or bring them to what this version needs.

    Each migration is applied once, as a whole, by one process at a time; a second run does nothing. It needs a role
    that may create tables; everything else works with fewer rights (docs/guides/postgres.md). Other versions of
    graviton should not use the database while it runs.
    """
    from graviton.assembly.database import migrate_database
    from graviton.cli.units import counted

    before = await migrate_database(call.settings())
    for one in before.pending:
        call.out.result(f"applied {one.name}", migration=one.name, version=one.version)
    version = (before.pending or before.applied)[-1].version
    text = f"{counted(len(before.pending), 'migration')} applied" if before.pending else "nothing to do"
    call.out.result(f"{text}; the tables have version {version}", summary="migrate", version=version)


@command()
async def status(call: Call) -> int:
    """Show which migrations were applied and which are to be. Exit code 1 unless all were."""
    from graviton.assembly.database import database_status

    found = await database_status(call.settings())
    for one in found.applied:
        call.out.result(f"applied  {one.applied_at}  {one.name}", state="applied", **one._asdict())
    for pending in found.pending:
        call.out.result(
            f"pending  {'':<20}  {pending.name}", state="pending", version=pending.version, name=pending.name
        )
    good = not found.problem and not found.pending
    text = found.problem or ("run `graviton db migrate`" if found.pending else "the tables are what this version needs")
    call.out.result(text, summary="status", current=good, problem=found.problem)
    return 0 if good else 1


@command()
@click.option("--older-than", required=True, metavar="AGE", help="Such as 12h or 30d.")
async def trim(call: Call, older_than: str) -> None:
    """Remove old events from the outbox: nothing else does.

    A follower that has not seen them is told so when it asks again, so keep them for longer than a follower may be
    away. Blobs and blocks are not touched. It can be interrupted, and go on later.
    """
    from graviton.assembly.database import trim_events
    from graviton.cli.progress import Tally, progress
    from graviton.cli.times import age_seconds
    from graviton.cli.units import counted

    tally = Tally()
    async with aclosing(trim_events(call.settings(), parsed("--older-than", age_seconds, older_than))) as steps:
        with progress(call.out, "removing events", tally.look, unit="event"):
            async for count in steps:
                tally.add(count)
    removed = tally.look().done
    call.out.result(f"{counted(removed, 'event')} removed", summary="trim", events=removed)


for _subcommand in (migrate, status, trim):
    db.add_command(_subcommand)
