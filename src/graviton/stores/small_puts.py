"""Single puts of small `bytes`, gathered: those that wait at the same moment are stored as one group.

A small put waits for the disk three times (docs/block-life.md) and would change threads as often. So one thread does it
from beginning to end, in place (concurrency/gathering.py). A group shares its fsyncs and its commit, each blob an owner
of its own. docs/decisions/0005-small-puts.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

from graviton.concurrency.calls import Call, deliver, own_copy
from graviton.concurrency.gathering import Gathering, Group
from graviton.errors import Unavailable
from graviton.ports.blobs import BlobWriteResult
from graviton.stores.intake import Parts
from graviton.stores.put_many import MAX_GROUP_BYTES, MAX_GROUP_ITEMS, Item, put_group
from graviton.stores.segments import step_bytes

__all__ = ["SmallPuts"]


class _Put(Call[BlobWriteResult]):
    """One blob on its way to the thread and back."""

    __slots__ = ("item",)

    def __init__(self, item: Item) -> None:
        super().__init__()
        self.item = item

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.item.data)


class SmallPuts:
    """See the module docstring. Usable from several event loops; not after a fork."""

    def __init__(self, parts: Parts) -> None:
        most = Group(MAX_GROUP_ITEMS, MAX_GROUP_BYTES)
        self._gathering: Gathering[_Put] = Gathering(partial(_serve, parts), lambda put: put.size, most, "put")

    async def put(self, item: Item) -> BlobWriteResult:
        """Store one blob, whole or not at all. Cancelled, it returns when the blob will not be stored or has been."""
        put = _Put(item)
        self._gathering.submit(put)
        return await put.outcome()

    async def aclose(self) -> None:
        """Let the puts that were accepted finish and end the thread. Idempotent."""
        await self._gathering.aclose()


async def _serve(parts: Parts, puts: Sequence[_Put]) -> None:
    for group in _compatible(puts):
        await _store(parts, group)


def _compatible(puts: Sequence[_Put]) -> Iterator[list[_Put]]:
    """Neighbours that can be one group."""
    for (_, _, chunker), some in groupby(puts, key=lambda put: put.item.kind):
        most = step_bytes(chunker, MAX_GROUP_BYTES)
        group: list[_Put] = []
        size = 0
        for put in some:
            if group and size + put.size > most:
                yield group
                group, size = [], 0
            group.append(put)
            size += put.size
        yield group


async def _store(parts: Parts, puts: Sequence[_Put]) -> None:
    """Give each put its result or its error.

    What fails together is tried alone, so that nobody fails for a stranger's blob. Not if the store cannot be reached:
    that concerns all, and each try would wait as long again.
    """
    error = await _try(parts, puts)
    if error is not None and len(puts) > 1 and not isinstance(error, Unavailable):
        for put in puts:
            put.error = Unavailable("cancelled") if put.cancelled else await _try(parts, [put])
            deliver([put])
        return
    if error is not None:
        for put in puts:
            put.error = own_copy(error)
    deliver(puts)


async def _try(parts: Parts, puts: Sequence[_Put]) -> BaseException | None:
    """Store a group; what went wrong, without the frames that hold its bytes."""
    try:
        results = await put_group(parts, [put.item for put in puts])
    except BaseException as error:  # noqa: BLE001 - the caller is told
        return error.with_traceback(None)
    for put, result in zip(puts, results, strict=True):
        put.result = result
    return None
