"""`graviton put`: files, folders and standard input into the store."""

from __future__ import annotations

from typing import Any

import click

from graviton.cli.call import Call
from graviton.cli.errors import BadArgument
from graviton.cli.options import PathText, WorksOn, command, offer_chunkers, offer_hashes

__all__ = ["put"]


@command(works_on=WorksOn.ANY_STORE)
@click.argument("paths", nargs=-1, required=True, metavar="PATH... | -", type=PathText())
@click.option("-r", "--recursive", is_flag=True, help="Store folders: every file, and a listing of them.")
@click.option("--follow", is_flag=True, help="With -r, store what links lead to, not the links.")
@click.option(
    "--chunker",
    metavar="SPEC|PRESET",
    shell_complete=offer_chunkers,
    help="How to cut: balanced, speed, dedup, small, or a spec.",
)
@click.option("--hash", "algo", metavar="ALGO", shell_complete=offer_hashes, help="blake3 or sha256.")
@click.option("--mime", metavar="TYPE", help="The MIME type to keep with the blob.")
@click.option("--attr", "attributes", metavar="NAME=VALUE", multiple=True, help="Keep NAME=VALUE, as user.NAME.")
@click.option("--no-name", is_flag=True, help="Do not keep the file's base name (as user.name).")
@click.option("--limit-rate", metavar="SIZE", help="Read at most SIZE bytes per second: 10MB, 512KiB.")
async def put(call: Call, paths: tuple[str, ...], recursive: bool, follow: bool, **wishes: Any) -> int:
    """Store files, folders or standard input.

    Prints the blob's id and the path for each file, once its bytes are durable. `-` is standard input. With -r, the
    last line of a folder has the id of its listing, from which `graviton get ID -o DIR` restores it.
    """
    from graviton.cli.putting import Putter, Wishes

    if follow and not recursive:
        raise BadArgument("--follow goes with -r", operation="put")
    asked = Wishes.parse(**wishes)
    call.out.check_stdout()  # an id that nobody sees is lost
    # As settings of the store, so that a put that makes it makes it so; and another store says that it is another.
    async with call.any_store(asked.applied(call.any_settings())) as store:
        return 0 if await Putter(call, store, asked, recursive, follow).put_all(paths) else 1
