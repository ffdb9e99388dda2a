"""`graviton ls`: the blobs of the store, in the order of their ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from graviton.cli.call import Call
from graviton.cli.options import WorksOn, command
from graviton.cli.output import Output, one_line

if TYPE_CHECKING:
    from graviton.ports.blobs import BlobStat

__all__ = ["ls"]


@command(works_on=WorksOn.ANY_STORE)
@click.option("--prefix", default="", metavar="TEXT", help="Only ids that begin so; the algorithm may be left out.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N blobs.")
@click.option("-l", "--long", is_flag=True, help="With time, size, number of blocks and name.")
async def ls(call: Call, prefix: str, limit: int | None, long: bool) -> None:
    """List blobs, in the order of their ids."""
    from graviton.cli.options import parsed

    prefixes = parsed("--prefix", _prefixes, prefix)
    left = limit
    async with call.any_store() as store:
        cas = await store.required()
        for text in prefixes:
            async for found in cas.list(text, limit=left):
                _print(call.out, found, long)
                if left is not None:
                    left -= 1


def _prefixes(text: str) -> list[str]:
    from graviton.cli.ids import list_prefixes
    from graviton.metadata.key_prefix import blob_key_prefix

    return [blob_key_prefix(prefix).text for prefix in list_prefixes(text)]


def _print(out: Output, found: BlobStat, long: bool) -> None:
    if not out.json and not long:
        out.result(found.key.text)
        return
    from graviton.cli.times import utc_text

    name = found.attributes.file_name
    created = utc_text(found.created_at_ns)
    out.result(
        f"{created[:19]}Z {found.size:>15} {found.blocks:>8}  {found.key}  {one_line(name or '')}".rstrip(),
        id=found.key.text,
        size=found.size,
        blocks=found.blocks,
        chunker=found.chunker,
        created=created,
        name=name,
        mime=found.attributes.mime,
    )
