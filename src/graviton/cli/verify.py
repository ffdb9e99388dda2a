"""`graviton verify`: read everything, check every digest, and name every damage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import click

from graviton.cli.call import Call
from graviton.cli.errors import BadArgument
from graviton.cli.ids import check_ids, resolve
from graviton.cli.options import WorksOn, command, offer_ids
from graviton.cli.progress import Tally, progress
from graviton.errors import IntegrityError

if TYPE_CHECKING:
    from graviton.assembly.store import Store
    from graviton.cli.output import Output
    from graviton.core.keys import BlobKey
    from graviton.ports.any_store import AnyStore
    from graviton.services.findings import Damage, VerifySummary
    from graviton.services.verify import Verification

__all__ = ["verify"]


@command(works_on=WorksOn.ANY_STORE)
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=offer_ids)
@click.option("--all", "all_blobs", is_flag=True, help="Every blob, every other block, and the metadata's own sums.")
@click.option("--quick", is_flag=True, help="Do not read blocks: pages, records, existence and sizes only.")
async def verify(call: Call, ids: tuple[str, ...], all_blobs: bool, quick: bool) -> int:
    """Read blobs and check every digest.

    Names blob, block and byte range of each damage, goes on after it, and ends with exit code 1 if there was any.
    Putting the same file again repairs damaged blocks.
    """
    if all_blobs == bool(ids):
        raise BadArgument("say which blobs: their ids, or --all for every one", operation="verify")
    check_ids(ids)
    findings, tally = _Findings(call.out), Tally()
    async with _opened(call, findings, tally, quick) as (store, run):
        keys = None if all_blobs else [await resolve(store, text) for text in ids]
        tally.at(0, await _logical_bytes(store) if keys is None else sum(key.size for key in keys))
        with progress(call.out, "verifying", tally.look):
            await (run.everything() if keys is None else run.blobs(keys))
        summary = run.summary
    _sum_up(call.out, summary, quick)
    findings.advise()
    return 0 if summary.is_clean else 1


class _Run(Protocol):
    """A verification, of whichever kind."""

    async def blobs(self, keys: Iterable[BlobKey]) -> None:
        """Verify these."""

    async def everything(self) -> None:
        """Verify all there is."""

    @property
    def summary(self) -> VerifySummary:
        """What was done."""


@asynccontextmanager
async def _opened(call: Call, findings: _Findings, tally: Tally, quick: bool) -> AsyncIterator[tuple[AnyStore, _Run]]:
    """The store and the run that fits: one behind a URL can only be read."""
    if call.any_settings().server is None:
        async with call.store() as store, await _verification(store, findings, quick, tally) as run:
            yield store, run
        return
    if quick:
        raise BadArgument(
            "--quick looks at blocks where they lie", operation="verify", hint="Run it on the machine of the store."
        )
    from graviton.services.verify_reading import ReadVerification

    async with (
        call.any_store() as server,
        ReadVerification(server, findings.show, progress=tally.add) as reading,
    ):
        yield server, reading


async def _logical_bytes(store: AnyStore) -> int | None:
    """How much there is to read, for the bar; None if the sums are damaged, which the run itself will tell."""
    try:
        return (await store.totals()).logical_bytes
    except IntegrityError:
        return None


async def _verification(store: Store, findings: _Findings, quick: bool, tally: Tally) -> Verification:
    from graviton.services.blob_check import VerifyParts
    from graviton.services.file_sizes import FileSizes
    from graviton.services.verify import Verification

    cas, settings = await store.required(), store.settings
    sizes = FileSizes(settings.fs_root / settings.fs_block_prefix) if settings.blob_backend == "fs" else None
    parts = VerifyParts(await store.metadata(), cas.index, cas.manifests, cas.blocks, cas.access, cas.budget, sizes)
    return Verification(parts, findings.show, quick=quick, progress=tally.add)


class _Findings:
    """Prints findings as they come, and remembers what can be done about them."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._damages = self._repairable = 0

    def show(self, found: Damage) -> None:
        """Print one."""
        from graviton.services.findings import Part

        self._damages += not found.is_note
        # A put writes the blocks and pages of a blob anew, and nothing else of the metadata.
        self._repairable += not found.is_note and found.blob is not None and found.part in (Part.BLOCK, Part.PAGE)
        self._out.result(f"{'note' if found.is_note else 'DAMAGED'}: {found.text}", **found.to_json())
        self._out.flush()

    def advise(self) -> None:
        """Say what to do next, if something is damaged."""
        more = "docs/guides/verify-and-repair.md says more"
        if self._repairable:
            self._out.note(f"put the damaged files again: that repairs their blocks. {more}")
        elif self._damages:
            self._out.note(f"a backup of the metadata may have what is damaged (`graviton meta restore`). {more}")


def _sum_up(out: Output, summary: VerifySummary, quick: bool) -> None:
    from graviton.cli.units import counted, human_bytes

    blobs, blocks = counted(summary.blobs, "blob"), counted(summary.blocks, "block")
    how = "looked at" if quick else f"read ({human_bytes(summary.read_bytes)})"
    if summary.is_clean:
        verdict = f"{blobs} {'is' if summary.blobs == 1 else 'are'} whole"
    else:
        verdict = f"{counted(summary.damages, 'damage')} in {summary.damaged_blobs:,} of {blobs}"
    text = f"{verdict}; {blocks} {how} in {summary.seconds:.1f} s"
    out.result(text, **{"summary": "verify", "quick": quick, "clean": summary.is_clean} | summary._asdict())
