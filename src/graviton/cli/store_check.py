"""`graviton store check`: every law of the stores, tried on the configured technology."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from graviton.cli.call import Call
from graviton.cli.errors import BadArgument
from graviton.cli.options import command
from graviton.errors import NotFound

if TYPE_CHECKING:
    from graviton.assembly.settings import Settings
    from graviton.cli.output import Output
    from graviton.cli.scratch_stores import ScratchStores

__all__ = ["check"]

_Contract: TypeAlias = type[Any]
"""A contract class. Not even for types is `graviton.testing` imported before a check runs."""

_SCRATCH = ".graviton-check-"
"""How folders of a check begin; no block, trash or temporary name of a store does."""


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
    from graviton.cli.scratch_stores import ScratchStores
    from graviton.concurrency.finishing import finish_anyway
    from graviton.testing.conformance.runner import Outcome, run_laws

    settings = call.settings()
    counts = dict.fromkeys(Outcome, 0)
    with _scratch_folder(_blocks_parent(settings)) as blocks, _scratch_folder(_metadata_parent(settings)) as metadata:
        place = ScratchStores(settings, metadata)
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


def _contracts(place: ScratchStores) -> list[_Contract]:
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
