"""`graviton meta`: back up, restore, move and repair the metadata, without which blocks are only a heap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graviton.cli.call import Call
from graviton.cli.meta_copy import copy, status
from graviton.cli.options import PathText, command, common_options
from graviton.cli.output import path_text
from graviton.cli.progress import Tally, progress

if TYPE_CHECKING:
    from graviton.cli.output import Output
    from graviton.metadata.recount import Recount

__all__ = ["meta"]


@click.group()
@common_options
def meta() -> None:
    """Back up, restore, move and repair the metadata."""


@command()
@click.argument("file", type=PathText())
@click.option("--force", is_flag=True, help="Replace FILE if it is there already.")
async def backup(call: Call, file: str, force: bool) -> None:
    """Write all metadata to one portable file, while the store is in use.

    The file appears under its name whole and durable, or not at all. Blocks are not in it: they are plain files that
    any tool can copy, before or after.
    """
    from graviton.assembly.places import own_places
    from graviton.cli.units import human_bytes
    from graviton.metadata.backup import backup_metadata

    async with call.store() as store:
        kv = await store.metadata()
        own_places(store.settings).check_output(file)
        tally = Tally()
        with progress(call.out, "backing up", tally.look):
            result = await backup_metadata(kv, file, overwrite=force, progress=lambda records, size: tally.at(size))
    call.out.result(
        f"{result.records:,} records of store {result.store_id} in {path_text(file)} ({human_bytes(result.size)})",
        file=path_text(file),
        **result._asdict(),
    )


@command()
@click.argument("file", type=PathText())
@click.option(
    "--trust",
    is_flag=True,
    help="Do not look whether every block is there; only if none was removed since, or their marker is lost.",
)
async def restore(call: Call, file: str, trust: bool) -> None:
    """Load a backup into a metadata store that is empty.

    The whole file is checked first; a damaged one, or one of blocks in another place, changes nothing. Then every
    block is looked for, and those that are gone are marked, so that the next put writes them again. The restored
    metadata gets a new id, so that it and the old one cannot manage the same blocks: `graviton store adopt` then joins
    it with the blocks.
    """
    from graviton.assembly import metadata_side, wiring
    from graviton.assembly.places import own_places
    from graviton.cli.units import counted
    from graviton.metadata.restore import restore_metadata

    settings = call.settings()
    own_places(settings).check_input(file)
    side = wiring.block_side(settings, wiring.kernel_for(settings))
    kv = metadata_side.open_metadata(settings, create=True)
    try:
        tally = Tally()
        with progress(call.out, "restoring", tally.look, "record"):
            result = await restore_metadata(
                kv,
                file,
                blocks_exist=None if trust else side.blocks.exists_many,
                place=side.place,
                markers=side.markers if settings.s3 is not None or settings.bucket_url else None,
                blocks_empty=side.is_empty,
                progress=tally.at,
            )
    finally:
        await kv.aclose()
        await side.blocks.aclose()
    store_id = result.marker.store_id if result.marker is not None else ""
    call.out.result(
        f"{counted(result.records, 'record')} restored to {metadata_side.metadata_place(settings)};"
        f" {counted(result.missing_blocks, 'block')} missing,"
        f" {counted(result.ended_sessions, 'unfinished put')} ended",
        file=path_text(file),
        store_id=store_id,
        records=result.records,
        missing_blocks=result.missing_blocks,
        ended_sessions=result.ended_sessions,
    )
    call.out.note("now run `graviton store adopt`, and then `graviton verify --all`")


@command(name="repair-totals")
async def repair_totals(call: Call) -> None:
    """Count blobs and blocks anew, and put the kept sums right.

    For what `graviton stats` says, if `graviton verify --all` finds it wrong or it cannot be read; nothing else depends
    on it. Others may go on writing meanwhile.
    """
    from graviton.metadata.recount import recompute_totals

    changed = uncounted = 0
    async with call.store() as store:
        kv, tally = await store.metadata(), Tally()
        with progress(call.out, "counting", tally.look, "domain"):
            async for one in recompute_totals(kv):
                tally.add(1)
                changed += one.is_changed
                uncounted += one.uncounted_rows
                if one.is_changed:
                    _tell_recount(call.out, one)
    if not changed:
        call.out.result("all totals are right", changed=0)
    if uncounted:
        call.out.note(f"{uncounted:,} damaged rows could not be counted; `graviton verify --all` names them")


def _tell_recount(out: Output, one: Recount) -> None:
    name = f"domain {one.domain!r}" if one.domain else "the default domain"
    kept, counted = one.kept._asdict(), one.counted._asdict()
    sums = ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in counted.items())
    out.result(f"put right: {name} has {sums}", domain=one.domain, kept=kept, counted=counted)


for _subcommand in (backup, restore, copy, status, repair_totals):
    meta.add_command(_subcommand)
