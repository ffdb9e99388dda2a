"""`graviton cat`: blobs to standard output, one after the other."""

from __future__ import annotations

import click

from graviton.cli.call import Call
from graviton.cli.options import WorksOn, command, offer_ids

__all__ = ["cat"]


@command(works_on=WorksOn.ANY_STORE)
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=offer_ids)
async def cat(call: Call, ids: tuple[str, ...]) -> int:
    """Write blobs to standard output, one after the other, every byte verified.

    Stops at the first that cannot be read. With --json, errors are objects on standard error once bytes have left.
    """
    from graviton.cli.ids import check_ids, resolve
    from graviton.services.output_pipe import DescriptorWriter

    check_ids(ids)
    async with call.any_store() as store:
        cas = await store.required()
        keys = [await resolve(cas, text) for text in ids]
        async with DescriptorWriter(1) as writer:
            for key in keys:
                async with await cas.get(key) as reader:
                    call.out.data_on_stdout()
                    await writer.copy(reader)
    return 0
