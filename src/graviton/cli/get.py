"""`graviton get`: a blob to a file or standard output, or the tree of a listing into a folder."""

from __future__ import annotations

import click

from graviton.cli.call import Call
from graviton.cli.errors import BadArgument
from graviton.cli.options import PathText, WorksOn, command, offer_ids

__all__ = ["get"]


@command(works_on=WorksOn.ANY_STORE)
@click.argument("blob_id", metavar="ID", shell_complete=offer_ids)
@click.option("-o", "--output", metavar="FILE|DIR|-", type=PathText(), help="Where to; - is standard output.")
@click.option("--range", "range_text", metavar="A-B", help="Only these bytes, both included: 0-99, 100-, -100.")
@click.option("--force", is_flag=True, help="In a folder, replace files that are different.")
@click.option("--keep-set-id", is_flag=True, help="Restore setuid and setgid bits of a tree, too.")
async def get(
    call: Call, blob_id: str, output: str | None, range_text: str | None, force: bool, keep_set_id: bool
) -> int:
    """Read a blob, or restore a tree. Every byte is verified before it leaves.

    Without -o the bytes go to standard output, unless that is a terminal. With -o FILE they go to a temporary file
    beside it, which takes its name when it is whole. With -o DIR a blob goes to DIR under the name it was put with,
    and a listing (of `put -r`) becomes the tree again.
    """
    from graviton.cli.getting import Getter, Target
    from graviton.cli.options import parsed
    from graviton.core.byte_range import parse_range

    wanted = None if range_text is None else parsed("--range", parse_range, range_text)
    target = Target.of(output)
    if target.is_terminal and output is None:
        raise BadArgument(
            "standard output is a terminal", operation="get", hint="Use -o FILE, or `graviton cat` if it is text."
        )
    if output == "-":
        call.out.data_on_stdout()
    async with call.any_store() as store:
        return await Getter(call, store, force, keep_set_id).get(blob_id, target, wanted)
