"""`graviton meta copy` and `graviton meta status`: moving the metadata to another kind of store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from graviton.cli.call import Call
from graviton.cli.errors import BadArgument
from graviton.cli.options import command
from graviton.cli.progress import Tally, progress
from graviton.errors import InvalidInput

if TYPE_CHECKING:
    from graviton.assembly.settings import Settings
    from graviton.metadata.copy import MetadataCopy
    from graviton.metadata.copy_plan import Found

__all__ = ["copy", "status"]


@command()
@click.option("--from", "source", metavar="PLACE", help="Metadata to be moved; the store's own by default.")
@click.option("--to", "target", metavar="PLACE", required=True, help="Where it goes.")
@click.option(
    "--replace-target",
    is_flag=True,
    help="Remove what is at --to, if it was moved elsewhere before, or is half a copy of something else.",
)
@click.option("--abort", is_flag=True, help="Give up a copy that was killed: the source takes changes again.")
async def copy(call: Call, source: str | None, target: str, replace_target: bool, abort: bool) -> None:
    """Move all metadata to another metadata store, which takes the place of the first one.

    PLACE is sqlite:PATH, rocksdb:PATH or postgresql://HOST/DATABASE; PG_USERNAME and PG_PASSWORD stand for a user and
    password that it does not name: others see what is in a command. Without a path sqlite and rocksdb lie in the
    store's folder; postgres alone is the database of PG_JDBC_URL. Its tables are made by `graviton db migrate` before.
    No block is touched.

    The store stays in use while rows are copied. For the last of them, and while all are read again and compared, it
    takes no changes. Then the blocks belong to the new metadata; the old one only reads, and says where it went.
    Killed or interrupted at any time, run the same command again: it goes on.
    """
    from graviton.assembly.moving import moving

    settings = call.settings()
    if source is not None:
        settings = _at(settings, "--from", source)
    tally = Tally()
    place = _at(settings, "--to", target)
    async with moving(
        settings,
        place,
        aborts=abort,
        replace_target=replace_target,
        on_step=call.out.detail,
        progress=tally.add,
    ) as work:
        if abort:
            await work.abort()
            call.out.result(
                f"given up: {work.source.where} takes changes again", aborted=True, source=work.source.where
            )
            return
        try:
            with progress(call.out, "copying", tally.look, "row"):
                result = await work.run()
        except BaseException:
            _tell_state(call, work)
            raise
        copied = f"{result.rows:,} rows copied and compared" if result.digest else "everything was copied before"
        call.out.result(
            f"{copied}: {work.target.where} has taken the place of {work.source.where}",
            source=work.source.where,
            target=work.target.where,
            settings=work.target.settings,
            **result._asdict(),
        )
        if result.unfinished_uploads:
            call.out.note(f"{result.unfinished_uploads} unfinished uploads were left behind: their clients begin again")
        call.out.note(f"from now on set {work.target.settings}; what is at {work.source.where} only reads")


def _tell_state(call: Call, work: MetadataCopy) -> None:
    """What became of a copy that did not come to its end."""
    row = work.source_row
    if work.is_done:
        call.out.note(f"the copy is complete: set {work.target.settings}")
    elif row is not None and row.state.value == "moving" and row.place == work.target.where:
        call.out.note(
            f"the metadata at {work.source.where} takes no changes until the same command was run again to its end, or"
            " with --abort"
        )
    elif work.has_begun and row is not None:  # somebody else's
        call.out.note(row.refusal(work.source.where).message)
    elif work.has_begun:
        call.out.note(
            f"the metadata at {work.source.where} is in use as before; the same command goes on with the copy"
        )


def _at(settings: Settings, option: str, text: str) -> Settings:
    """The settings with other metadata. The text is not repeated: it may hold a password."""
    from graviton.assembly.moving import metadata_at

    try:
        return metadata_at(settings, text, os.environ)
    except InvalidInput as error:
        raise BadArgument(f"{option}: {error.message}", operation="meta.copy", hint=error.hint) from error


@command()
async def status(call: Call) -> None:
    """Show where the metadata is, and whether it takes changes: not while, and after, it is moved elsewhere."""
    from graviton.assembly.metadata_side import metadata_place
    from graviton.assembly.moving import metadata_status

    settings = call.settings()
    found = await metadata_status(settings)
    if found is None:
        where = metadata_place(settings)
        call.out.result(f"there is no metadata at {where}", state="absent", place=where)
        return
    place, what = found
    state, text, more = _state(what)
    ids = {} if what.marker is None else {"store_id": what.marker.store_id, "metadata_id": what.marker.metadata_id}
    lines = [f"{place.where}: {text}", *(f"{name} {value}" for name, value in ids.items())]
    call.out.result("\n".join(lines), state=state, place=place.where, **ids, **more)


def _state(found: Found) -> tuple[str, str, dict[str, str]]:
    """A stable name, a text for people, and what else there is to say."""
    row = found.read_only
    if found.half is not None:
        return "half_copy", f"half a copy of the metadata at {found.half.source}", {"source": found.half.source}
    if found.is_half:
        return "half_restored", "a restore did not come to its end", {}
    if row is not None:
        if row.state.value == "moved":
            text = f"was moved to {row.place}; set {row.settings}"
            return "moved", text, {"target": row.place, "settings": row.settings}
        text = f"takes no changes while it is being moved to {row.place}"
        return row.state.value, text, {"target": row.place}  # which is half, and refuses who uses its settings
    if found.marker is None:
        return "empty", "belongs to no store yet", {}
    return "in_use", "takes changes", {}
