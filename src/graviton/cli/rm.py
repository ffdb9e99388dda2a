"""`graviton rm`: takes blobs out of the store."""

from __future__ import annotations

import asyncio
import sys

import click

from graviton.cli.call import Call
from graviton.cli.errors import BadArgument
from graviton.cli.options import WorksOn, command, offer_ids
from graviton.core.keys import BlobKey
from graviton.errors import GravitonError, NotFound

__all__ = ["rm"]


@command(works_on=WorksOn.ANY_STORE)
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=offer_ids)
@click.option("--yes", is_flag=True, help="Do not ask about shortened ids.")
async def rm(call: Call, ids: tuple[str, ...], yes: bool) -> int:
    """Remove blobs. Their space returns with garbage collection.

    A shortened id is shown in full and asked about on a terminal; elsewhere it needs --yes.
    """
    from graviton.cli.ids import check_ids, is_short, resolve

    check_ids(ids)
    if any(map(is_short, ids)) and not yes and not _can_ask(call):
        raise BadArgument("a shortened id needs --yes", operation="rm", hint="Or give the full id.")
    removed = failed = 0
    async with call.any_store() as store:
        cas = await store.required()
        for text in ids:
            try:
                key = await resolve(cas, text)
                if is_short(text) and not yes and not await _is_meant(key):
                    failed += 1
                    continue
                if not await cas.delete(key):
                    raise NotFound(
                        f"there is no blob {key}",
                        operation="rm",
                        subject=key.text,
                        hint="`graviton ls` lists what is there.",
                    )
            except GravitonError as error:
                call.out.error(error)
                failed += 1
            else:
                removed += 1
                call.out.result(f"removed {key}", id=key.text, size=key.size, removed=True)
                call.out.flush()
    if removed:
        call.out.note("the space returns with garbage collection")
    return 1 if failed else 0


def _can_ask(call: Call) -> bool:
    return not call.out.json and sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


async def _is_meant(key: BlobKey) -> bool:
    """Ask. Waits on the event loop, so that Ctrl-C ends it."""
    sys.stderr.write(f"Remove {key}? [y/N] ")
    sys.stderr.flush()
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()
    loop.add_reader(0, _resolve, answered)
    try:
        await answered
    finally:
        loop.remove_reader(0)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _resolve(answered: asyncio.Future[None]) -> None:
    if not answered.done():
        answered.set_result(None)
