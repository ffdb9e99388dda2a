"""`graviton stat`: what is known about a blob."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from graviton.cli.call import Call
from graviton.cli.options import WorksOn, command, offer_ids
from graviton.cli.output import Output, one_line

if TYPE_CHECKING:
    from graviton.ports.any_store import AnyStore
    from graviton.ports.blobs import BlobStat

__all__ = ["stat"]


@command(works_on=WorksOn.ANY_STORE)
@click.argument("blob_id", metavar="ID", shell_complete=offer_ids)
@click.option("--blocks", is_flag=True, help="Its blocks too: offset, size and key of each.")
async def stat(call: Call, blob_id: str, blocks: bool) -> None:
    """Show what is known about a blob: size, blocks, chunker, times, attributes."""
    from graviton.cli.ids import resolve
    from graviton.errors import NotFound

    async with call.any_store() as store:
        cas = await store.required()
        key = await resolve(cas, blob_id)
        found = await cas.stat(key)
        if found is None:
            raise NotFound(
                f"there is no blob {key}", operation="stat", subject=key.text, hint="`graviton ls` lists what is there."
            )
        _print_blob(call.out, found)
        if blocks:
            await _print_blocks(call.out, store, found)


def _print_blob(out: Output, found: BlobStat) -> None:
    from graviton.cli.times import utc_text

    created = utc_text(found.created_at_ns)
    attributes = {name: _value(stamped.value) for name, stamped in found.attributes.items()}
    lines = [
        f"id          {found.key}",
        f"size        {found.size}",
        f"blocks      {found.blocks}",
        f"chunker     {found.chunker}",
        f"hash        {found.key.algo.value}",
        f"created     {created}",
    ]
    width = max(10, *map(len, attributes)) if attributes else 10
    lines += [f"{name:<{width}}  {one_line(str(value))}" for name, value in attributes.items()]
    out.result(
        "\n".join(lines),
        id=found.key.text,
        size=found.size,
        blocks=found.blocks,
        chunker=found.chunker,
        hash=found.key.algo.value,
        created=created,
        name=found.attributes.file_name,
        mime=found.attributes.mime,
        attributes=attributes,
    )


async def _print_blocks(out: Output, store: AnyStore, found: BlobStat) -> None:
    async for entry in store.manifest(found.key):
        out.result(
            f"{entry.offset:>14} {entry.key.size:>9}  {entry.key}",
            key=entry.key.text,
            offset=entry.offset,
            size=entry.key.size,
        )


def _value(value: Any) -> Any:
    """An attribute's value as JSON has it; a digest as its text."""
    return value if isinstance(value, (int, str)) else str(value)
