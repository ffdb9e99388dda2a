"""`graviton meta copy`: all metadata of a store into another metadata store, which takes its place.

docs/metadata-copy.md has what could go wrong, and why the steps come in this order.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import NamedTuple

from graviton.concurrency.finishing import finish_anyway
from graviton.core.clock import Clock, SystemClock
from graviton.errors import ConfigError, Conflict, IntegrityError
from graviton.metadata.audit import audit
from graviton.metadata.copy_handover import Handover
from graviton.metadata.copy_marks import HalfCopy
from graviton.metadata.copy_plan import OPERATION, Found, Place, Way, find, plan, read_found
from graviton.metadata.copy_rows import MADE_ANEW, Digests, Sync, make_claims, read_digests, sum_claims
from graviton.metadata.marker import MarkerStore, Side, StoreMarker, new_id
from graviton.metadata.pairing import MARKER_KEY, RESTORING_KEY
from graviton.metadata.passing import count_unfinished
from graviton.metadata.read_only import ReadOnly, ReadOnlyState
from graviton.metadata.refill import clear, count_totals
from graviton.metadata.replica_indexes import rebuild_replica_indexes
from graviton.metadata.rows import CLAIMS, STORE
from graviton.ports.kv import Transaction

__all__ = ["CopyResult", "MetadataCopy", "Place"]

_RUN_BYTES = 16
_SHOWN_FINDINGS = 3
"""How much of what an audit finds an error repeats."""


class CopyResult(NamedTuple):
    """A copy that has come to its end."""

    store_id: str
    metadata_id: str
    """The id of the target, which manages the blocks from now on."""
    rows: int
    """Rows copied and compared; 0 if an earlier run did, and only its last step was missing."""
    digest: str
    """BLAKE3 over the rows, in the form that is the same for every kind of metadata; empty likewise."""
    unfinished_uploads: int = 0
    """Uploads that were going on, and that their clients have to begin again."""


class MetadataCopy:
    """One run of a copy; `run` or `abort`, once."""

    def __init__(
        self,
        source: Place,
        target: Place,
        markers: MarkerStore,
        *,
        replace_target: bool = False,
        on_step: Callable[[str], None] | None = None,
        progress: Callable[[int], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`markers` is the side of the blocks. With `replace_target` a target that was retired, or is half a copy of
        another source, is cleared first. `on_step` is told what begins, `progress` how many rows were looked at since
        it was told last."""
        self.source, self.target, self._markers = source, target, markers
        self._replaces = replace_target
        self._on_step = on_step or (lambda step: None)
        self._progress = progress or (lambda rows: None)
        self._clock = clock or SystemClock()
        self._run = secrets.token_hex(_RUN_BYTES)
        self._handover = Handover(source, target, markers, self._run, self._clock)
        self.has_begun = False
        """The target is ours, and holds some rows maybe."""

    @property
    def is_done(self) -> bool:
        """The target is in use, and the source knows it."""
        return self._handover.is_done

    @property
    def source_row(self) -> ReadOnly | None:
        """Why nobody may write to the source, as far as is known. One that names this target, after a failure, means
        that the copy has to be run again, or given up with `abort`."""
        return self._handover.source_row

    async def run(self) -> CopyResult:
        """Copy, verify and switch; from where an earlier run was stopped, if one was.

        A failure or cancellation before the switch leaves the source in use; if even that fails, and after a kill,
        `source_row` tells so. Raises ConfigError where the three sides do not fit together, Retired for a source
        that was moved elsewhere, Conflict if another run took over, IntegrityError for rows that cannot be read or do
        not come out the same, and what the stores raise.
        """
        ours, theirs, blocks = await self._look()
        way = plan(self.source, self.target, ours, theirs, blocks, self._replaces)
        assert ours.marker is not None, "plan refuses that"
        if way is Way.FINISH:
            assert theirs.marker is not None
            await self._handover.retire(theirs.marker.metadata_id)
            return CopyResult(theirs.marker.store_id, theirs.marker.metadata_id, 0, "")
        await self._markers.check_replace()
        await self.source.kv.check_gate()
        if theirs.read_only is not None:
            await self.target.kv.check_gate()
        half = self._mark(ours.marker, theirs, way)
        await self._take(theirs, half)
        self.has_begun = True
        digests = await self._copy(half, ours.read_only)
        marker = ours.marker._replace(metadata_id=half.metadata_id)
        unfinished = await count_unfinished(self.source.kv)
        self._on_step("switching")
        await finish_anyway(self._handover.pass_on(marker, is_gated=theirs.read_only is not None))
        return CopyResult(marker.store_id, marker.metadata_id, digests.rows, digests.digest(), unfinished)

    async def _copy(self, half: HalfCopy, found: ReadOnly | None) -> Digests:
        """Everything, into a target that is ours; then the source is closed. `found` is what closed it before."""
        if not half.is_cleared:
            await self._clear(half)
        if found is None:
            self._on_step("copying, while the source is in use")
            await self._sync(half).run(last=False)
        try:
            self._on_step("closing the source for changes")
            await self._handover.close(half.metadata_id, found)
            digests = await self._last_pass(half)
            await self._verify(digests)
        except BaseException:
            await finish_anyway(self._handover.recover())
            raise
        return digests

    async def abort(self) -> None:
        """Give up a copy that was killed: the source is in use again. Raises ConfigError if there is nothing to give
        up, if the target is not the one of that copy, or if it is in use already; Conflict if another run took over."""
        ours, theirs, _ = await self._look()
        row = ours.read_only
        if row is None or ours.marker is None:
            raise self._refusal(f"nothing is being moved from {self.source.where}", "The store is in use as it is.")
        if row.state is ReadOnlyState.MOVED:
            raise row.refusal(self.source.where)
        if row.place != self.target.where:
            text = f"the metadata is being moved to {row.place}, not to {self.target.where}"
            raise self._refusal(text, "Name that place with --to.")
        if theirs.half is None or theirs.half.metadata_id != row.metadata_id:
            raise self._not_half(theirs, row)
        await self._take(theirs, theirs.half._replace(run=self._run))  # whoever is at it still is refused
        await self._handover.give_back(row)
        if self.source_row is not None:
            raise Conflict(f"another run took over the copy from {self.source.where}", operation=OPERATION)

    def _not_half(self, theirs: Found, row: ReadOnly) -> ConfigError:
        """Without the half copy nobody who is at it still can be refused."""
        if theirs.marker is not None and theirs.marker.metadata_id == row.metadata_id:
            text = f"the metadata at {self.target.where} has taken the place of the source already"
            return self._refusal(text, "Run `graviton meta copy` without --abort: it finishes.")
        text = f"the half copy that was at {self.target.where} is not there"
        return self._refusal(text, "If it is lost for good: `graviton store adopt --retired`.")

    async def _look(self) -> tuple[Found, Found, Side]:
        ours = await read_found(self.source)  # first: a target that is missing is made by looking at it
        self._handover.source_row = ours.read_only
        if ours.marker is None:
            raise self._refusal(f"there is no store at {self.source.where}", "Check --from, and the settings.")
        data = await self._markers.read()
        where = self._markers.where
        blocks = Side(where, None if data is None else StoreMarker.decode(data, where), data is None)
        return ours, await read_found(self.target), blocks

    def _mark(self, source: StoreMarker, theirs: Found, way: Way) -> HalfCopy:
        if way is Way.RESUME and theirs.half is not None:
            return theirs.half._replace(run=self._run)
        now, is_cleared = self._clock.now_ns(), way is not Way.CLEAR
        return HalfCopy(self.source.where, source.metadata_id, new_id(), self._run, now, is_cleared)

    async def _take(self, theirs: Found, half: HalfCopy) -> None:
        """Make the target ours, if it is still as it was found."""
        names, mark = await self.target.kv.namespaces(), half.encode()

        def take(tx: Transaction) -> None:
            if tx.get(STORE, RESTORING_KEY) == mark:
                return
            if find(tx, names, self.target.where) != theirs:
                raise Conflict(f"somebody else changed the metadata at {self.target.where}", operation=OPERATION)
            tx.delete(STORE, MARKER_KEY)
            tx.put(STORE, RESTORING_KEY, mark)

        # One that was retired stays closed until it is whole: programs may have it open since before.
        await self.target.kv.past_gate.transact(take)

    async def _clear(self, half: HalfCopy) -> None:
        self._on_step("clearing the target")
        kv = self.target.kv.past_gate
        await clear(kv, await kv.namespaces(), self._handover.check)

        def say_so(tx: Transaction) -> None:
            self._handover.check(tx)
            tx.put(STORE, RESTORING_KEY, half._replace(is_cleared=True).encode())

        await kv.transact(say_so)

    def _sync(self, half: HalfCopy) -> Sync:
        return Sync(self.source.kv, self.target.kv, half.began_ns, self._handover.check, self._progress)

    async def _last_pass(self, half: HalfCopy) -> Digests:
        self._on_step("copying what has changed")
        sync = self._sync(half)
        await sync.run(last=True)
        kv = self.target.kv.past_gate
        await clear(kv, sorted(MADE_ANEW.intersection(await kv.namespaces())), self._handover.check)
        await count_totals(kv, self._handover.check)
        if self.target.kv.keeps_derived_rows:
            await rebuild_replica_indexes(kv, self._handover.check)
        return sync.digests

    async def _verify(self, wanted: Digests) -> None:
        """Raises IntegrityError unless the target has the rows of the source and keeps the laws between them."""
        self._on_step("verifying the target")
        found = await read_digests(self.target.kv, self._progress)
        if found.claims != wanted.claims:  # lost or left over from a run before: they follow from others
            kv = self.target.kv.past_gate
            await clear(kv, [CLAIMS], self._handover.check)
            await make_claims(kv, self._handover.check)
            found.claims = await sum_claims(kv)
        told, read = wanted.by_namespace(), found.by_namespace()
        wrong = sorted(name for name in told.keys() | read.keys() if told.get(name) != read.get(name))
        if wrong or found.claims != wanted.claims:
            raise self._unsound(f"rows of {', '.join(wrong) or 'claims'} are not those of the source")
        findings: list[str] = []
        async for finding in audit(self.target.kv):
            if len(findings) < _SHOWN_FINDINGS:
                findings.append(f"{finding.subject}: {finding.message}")
        if findings:
            raise self._unsound("; ".join(findings))

    def _unsound(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"the copy at {self.target.where} is not sound: {what}",
            operation=OPERATION,
            subject=self.target.where,
            hint="The source stays in use. `graviton verify --all` tells whether it is sound itself; then try again.",
        )

    def _refusal(self, text: str, hint: str) -> ConfigError:
        return ConfigError(text, operation=OPERATION, subject=self.source.where, hint=hint)
