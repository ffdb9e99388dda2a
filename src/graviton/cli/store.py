"""`graviton store`: make a store, say that two halves belong together, or try the laws on its technology."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from graviton.cli.call import Call
from graviton.cli.errors import BadArgument
from graviton.cli.options import command, common_options, offer_chunkers, offer_hashes, parsed
from graviton.errors import NotFound

if TYPE_CHECKING:
    from graviton.assembly.block_side import BlockSide
    from graviton.assembly.settings import Settings
    from graviton.assembly.store import Store
    from graviton.cli.output import Output
    from graviton.metadata.marker import StoreMarker
    from graviton.ports.blocks import BlockStore
    from graviton.ports.kv import KeyValueStore
    from graviton.ports.reclaimer import BlockReclaimer

__all__ = ["store"]

_Contract: TypeAlias = type[Any]
"""A contract class. Not even for types is `graviton.testing` imported before a check runs."""

_SCRATCH = ".graviton-check-"
"""How folders of a check begin; no block, trash or temporary name of a store does."""


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


@command()
@click.option(
    "--port", "ports", multiple=True, metavar="NAME", help="Only this port's laws, e.g. BlockStore; repeatable."
)
async def check(call: Call, ports: tuple[str, ...]) -> int:
    """Try every law of the stores on the configured technology.

    Works in scratch folders beside the data, below a scratch prefix of the bucket, and in scratch schemas of the
    database, for which it needs a role that may make them. All are removed afterwards, and nothing of the store itself
    is touched.
    Takes half a minute. Exit code 1 if a law is broken: then do not keep data there.
    """
    from graviton.concurrency.finishing import finish_anyway
    from graviton.testing.conformance.runner import Outcome, run_laws

    settings = call.settings()
    counts = dict.fromkeys(Outcome, 0)
    with _scratch_folder(_blocks_parent(settings)) as blocks, _scratch_folder(_metadata_parent(settings)) as metadata:
        place = _Place(settings, metadata)
        try:
            for contract in _chosen(_contracts(place), ports):
                async for result in run_laws(contract, blocks / contract.__name__):
                    counts[result.outcome] += 1
                    _show(call.out, contract, result)
        finally:
            await finish_anyway(place.clean_up())
    broken = counts[Outcome.BROKEN]
    call.out.result(
        f"{counts[Outcome.KEPT]} laws kept, {broken} broken, {counts[Outcome.SKIPPED]} do not apply here",
        summary="check",
        clean=not broken,
        **{outcome.value: count for outcome, count in counts.items()},
    )
    return 1 if broken else 0


def _show(out: Output, contract: _Contract, result: Any) -> None:
    law = result.law.removeprefix("test_").replace("_", " ")
    reason = f": {result.reason}" if result.reason else ""
    out.result(
        f"{result.outcome.value:<8} {contract.port.__name__}: {law}{reason}",
        port=contract.port.__name__,
        law=result.law,
        outcome=result.outcome.value,
        reason=result.reason,
        seconds=round(result.seconds, 6),
    )
    out.flush()


def _blocks_parent(settings: Settings) -> Path | None:
    return settings.fs_root if settings.blob_backend == "fs" else None


def _metadata_parent(settings: Settings) -> Path | None:
    return settings.metadata_path.parent if settings.metadata in ("sqlite", "rocksdb") else None


@contextmanager
def _scratch_folder(parent: Path | None) -> Iterator[Path]:
    """A new folder in `parent`, so on the file system under test, removed with everything in it; anywhere for what
    lies in memory."""
    if parent is None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    if not parent.is_dir():
        raise NotFound(
            f"there is no folder {parent} to check",
            operation="store.check",
            subject=str(parent),
            hint="Check --root or GRAVITON_FS_ROOT; `graviton store init` makes a store.",
        )
    scratch = parent / (_SCRATCH + secrets.token_hex(8))
    os.mkdir(scratch, 0o700)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch)


def _contracts(place: _Place) -> list[_Contract]:
    """The contracts of every port that a store there is made of."""
    from graviton.assembly.metadata_side import metadata_ports
    from graviton.testing.conformance.blobs import BlobStoreContract
    from graviton.testing.conformance.block_index import BlockIndexContract
    from graviton.testing.conformance.blocks import BlockStoreContract
    from graviton.testing.conformance.kv import KeyValueStoreContract
    from graviton.testing.conformance.manifests import BlobManifestRepoContract
    from graviton.testing.conformance.metadata_values import Metadata
    from graviton.testing.conformance.reclaimer import BlockReclaimerContract
    from graviton.testing.conformance.runner import bind

    settings = place.settings
    blocks, pairs = place.block_capabilities, place.metadata_capabilities
    over_pairs = {"make_metadata": lambda law, kv: Metadata(*metadata_ports(settings, kv, law.clock))}
    return [
        bind(BlockStoreContract, place.blocks, blocks),
        _with(
            bind(BlockReclaimerContract, place.blocks, blocks), make_reclaimer=lambda law, store: place.reclaimer(store)
        ),
        bind(KeyValueStoreContract, place.pairs, pairs, place.tear_down),
        _with(bind(BlockIndexContract, place.pairs, pairs, place.tear_down), **over_pairs),
        _with(bind(BlobManifestRepoContract, place.pairs, pairs, place.tear_down), **over_pairs),
        bind(BlobStoreContract, place.blobs, place.blob_capabilities, place.tear_down),
    ]


def _chosen(contracts: list[_Contract], ports: tuple[str, ...]) -> list[_Contract]:
    names = {contract.port.__name__ for contract in contracts}
    for name in ports:
        if name not in names:
            raise BadArgument(f"--port: no store here has the port {name!r}; there are {', '.join(sorted(names))}")
    return [contract for contract in contracts if not ports or contract.port.__name__ in ports]


def _with(contract: _Contract, **methods: Any) -> _Contract:
    return type(contract.__name__, (contract,), methods)


class _Place:
    """Stores like the configured one, each law's in a scratch place of its own."""

    def __init__(self, settings: Settings, metadata: Path) -> None:
        from graviton.assembly import metadata_side, wiring
        from graviton.core.chunking import PRESETS

        self._wiring, self._metadata_side = wiring, metadata_side
        self._kernel = wiring.kernel_for(settings)
        # Small blocks: laws about blobs of many blocks are then quick.
        self.settings = settings._replace(chunker=PRESETS["small"])
        self._prefix = f"{_bucket_folder(settings)}check-{secrets.token_hex(8)}"
        self._metadata = metadata
        self._sides: dict[int, BlockSide] = {}
        self.block_capabilities = wiring.block_side(settings, self._kernel).blocks.capabilities
        self.metadata_capabilities = metadata_side.open_metadata(self.settings, create=False).capabilities
        self.blob_capabilities = self.block_capabilities

    def _files(self, space: str, scratch: Path) -> Settings:
        made = self.settings._replace(fs_root=scratch / "store", meta_path=self._metadata / space / "meta")
        return made if made.s3 is None else made._replace(s3=replace(made.s3, prefix=f"{self._prefix}/{space}"))

    async def _at(self, space: str, scratch: Path) -> Settings:
        settings = self._files(space, scratch)
        if settings.postgres is None:
            return settings
        from graviton.assembly.database import make_scratch_schema

        return await make_scratch_schema(settings, _schema(space))

    async def tear_down(self, space: str) -> None:
        """Remove what a law left in the database."""
        if self.settings.postgres is not None:
            from graviton.assembly.database import drop_scratch_schema

            await drop_scratch_schema(self.settings, _schema(space))

    async def clean_up(self) -> None:
        """Remove what laws left in the bucket."""
        if self.settings.s3 is not None:
            from graviton.assembly.buckets import remove_below

            await remove_below(self.settings.s3, self._prefix)

    def blocks(self, space: str, scratch: Path) -> BlockStore:
        """A block store; its reclaimer is found by it."""
        side = self._wiring.block_side(self._files(space, scratch), self._kernel)
        self._sides[id(side.blocks)] = side
        return side.blocks

    def reclaimer(self, blocks: BlockStore) -> BlockReclaimer:
        """The reclaimer of a block store made here."""
        return self._sides[id(blocks)].reclaimer

    async def pairs(self, space: str, scratch: Path) -> KeyValueStore:
        """A metadata store."""
        return self._metadata_side.open_metadata(await self._at(space, scratch), create=True)

    async def blobs(self, space: str, scratch: Path) -> Store:
        """A whole store."""
        from graviton.assembly.store import Store

        return Store(await self._at(space, scratch))


def _bucket_folder(settings: Settings) -> str:
    """Where in the bucket a check works: beside the blocks, where the rights for them hold too (docs/guides/s3.md)."""
    folder, slash, _ = settings.s3.prefix.rpartition("/") if settings.s3 is not None else ("", "", "")
    return folder + slash


def _schema(space: str) -> str:
    """The space of a law as the name of a schema."""
    return "graviton_check_" + space.rpartition("-")[2]


for _subcommand in (init, adopt, check):
    store.add_command(_subcommand)
