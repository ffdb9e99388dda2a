"""`graviton store`: make a store, say that two halves belong together, or try the laws on its technology."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from graviton.cli.call import Call
from graviton.cli.options import command, common_options, offer_chunkers, offer_hashes, parsed
from graviton.cli.store_check import check

if TYPE_CHECKING:
    from graviton.cli.output import Output
    from graviton.metadata.marker import StoreMarker

__all__ = ["store"]


@click.group()
@common_options
def store() -> None:
    """Make, adopt or check a store."""


@command()
@click.option(
    "--chunker",
    "spec_text",
    metavar="SPEC|PRESET",
    shell_complete=offer_chunkers,
    help="How blobs are cut from now on.",
)
@click.option("--hash", "hash_text", metavar="ALGO", shell_complete=offer_hashes, help="blake3 (default) or sha256.")
async def init(call: Call, spec_text: str | None, hash_text: str | None) -> None:
    """Make a store, and print its marker. If there is one already, only print."""
    from graviton.assembly.store import Store
    from graviton.core.chunking import ChunkerSpec
    from graviton.core.hashing import HashAlgo

    settings = call.settings()
    if spec_text is not None:
        settings = settings._replace(chunker=parsed("--chunker", ChunkerSpec.parse, spec_text))
    if hash_text is not None:
        settings = settings._replace(hash=parsed("--hash", HashAlgo.parse, hash_text))
    async with Store(settings) as made:
        marker, is_new = await made.init()
        where = made.sides.markers.where
    _print_marker(call.out, f"{'made a store' if is_new else 'there is a store'} at {where}", marker, created=is_new)


@command()
@click.option(
    "--without-metadata",
    is_flag=True,
    help="Also where blocks lie and no metadata: what was stored before is given up.",
)
@click.option(
    "--retired",
    is_flag=True,
    help="Also metadata that was, or is being, moved elsewhere and is lost there: what was put since is given up.",
)
async def adopt(call: Call, without_metadata: bool, retired: bool) -> None:
    """Say that these blocks and this metadata belong together.

    Every store has a marker on both sides, in the folder of the blocks and in the metadata, and a command refuses to
    work when they differ: a wrong folder, a disk that is not mounted, or restored metadata must not be mixed up with
    something else. If you are sure that the two sides do belong together (you moved one, or restored the metadata),
    adopt them. What the metadata says is taken; without a marker there, what the blocks' side says, under a new
    metadata id, so that older metadata is refused from then on; without any, a new store begins. Blocks whose metadata
    is lost are refused: restore it with `graviton meta restore`. No block and no blob is changed: run
    `graviton verify --all` afterwards to see what is there.
    """
    async with call.store() as found:
        where = found.sides.markers.where
        call.out.note(f"taking the blocks at {where} and the metadata of these settings as one store")
        marker = await found.adopt(without_metadata=without_metadata, retired=retired)
    _print_marker(call.out, f"adopted: both sides at {where} now say the same", marker, adopted=True)
    call.out.note("no block and no blob was changed; `graviton verify --all` tells what is there")


def _print_marker(out: Output, headline: str, marker: StoreMarker, **values: Any) -> None:
    import json

    text = marker.encode().decode()
    out.result(f"{headline}\n{text.rstrip()}", **values, **json.loads(text))


for _subcommand in (init, adopt, check):
    store.add_command(_subcommand)
