"""Blocks in buckets: S3 and its relatives by settings, Google's and Azure's by address."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from graviton.assembly.block_side import BlockSide
from graviton.backends.objectstore import (
    ObjectBlockReclaimer,
    ObjectMarkerStore,
    S3BlockStore,
    S3MutableObjectStore,
    cloud_block_store,
    make_bucket,
)
from graviton.core.clock import SystemClock
from graviton.errors import GravitonError
from graviton.services.doctor import Check, Level
from graviton.services.uploads.parts import PartPlace

if TYPE_CHECKING:
    from graviton.assembly.settings import Settings
    from graviton.backends.objectstore import ObjectBlockStore, S3Config
    from graviton.ports.events import EventSink
    from graviton.ports.metrics import MetricsRegistry

__all__ = ["bucket_side", "check_bucket", "remove_below"]

_SLOW_SECONDS = 0.2
"""A request that takes longer makes small puts slow; a far region of AWS takes about as long."""
_LATE_SECONDS, _PAUSE_SECONDS, _GIVE_UP_SECONDS = 1.0, 0.25, 5.0
"""How long what was cancelled is waited for, how often it is looked for, and when that ends anyway."""
_PART_WRITERS = 2
"""Parts of one multipart upload in memory at once, for what waits of an upload: its memory is drawn from the budget."""
_FIRST_SECONDS = 3.0
"""How long the first requests of a store are tried again: a server that does not answer should be told of soon."""


def bucket_side(settings: Settings, metrics: MetricsRegistry | None, events: EventSink | None) -> BlockSide:
    """The block store, its reclaimer and its marker. Touches nothing. Raises ConfigError."""
    if settings.s3 is None:
        cloud = cloud_block_store(settings.bucket_url, metrics=metrics, events=events)
        return BlockSide(cloud, ObjectBlockReclaimer(cloud), _markers(cloud, settings.bucket_url))
    store = S3BlockStore(settings.s3, metrics=metrics, events=events)
    make = partial(make_bucket, _hurried(settings.s3), store.driver.requests.hurried(_FIRST_SECONDS))
    places = partial(_part_place, settings.s3, metrics)
    return BlockSide(
        store, ObjectBlockReclaimer(store), _markers(store, settings.s3.where), make=make, part_place=places
    )


def _part_place(config: S3Config, metrics: MetricsRegistry | None) -> PartPlace:
    """Beside the blocks, never below their prefix."""
    objects = S3MutableObjectStore(replace(config, parallel_parts=_PART_WRITERS), metrics=metrics)
    prefix = f"{config.prefix}.uploads/"
    return PartPlace(objects, "s3", config.bucket, prefix, _PART_WRITERS * config.part_bytes)


def _hurried(config: S3Config) -> S3Config:
    """The same bucket, whose server is not waited for."""
    return replace(
        config,
        connect_seconds=min(config.connect_seconds, _FIRST_SECONDS),
        request_seconds=min(config.request_seconds, _FIRST_SECONDS),
    )


def _markers(store: ObjectBlockStore, where: str) -> ObjectMarkerStore:
    return ObjectMarkerStore(store.driver.hurried(_FIRST_SECONDS), store.layout.prefix, where)


async def check_bucket(config: S3Config) -> Check:
    """Whether the server answers, and how fast, and whether the bucket is there."""
    clock = SystemClock()
    try:
        store = S3BlockStore(config)
    except GravitonError as error:
        return Check("bucket", Level.PROBLEM, error.message, error.hint, {"error": error.code})
    driver = store.driver.hurried(_FIRST_SECONDS)
    try:
        async with aclosing(driver.list(config.prefix, config.where)) as found:
            async for _ in found:
                break
        await driver.exists(f"{config.prefix}/doctor", config.where)  # opens the connection
        began = clock.monotonic()
        await driver.exists(f"{config.prefix}/doctor", config.where)
        seconds = clock.monotonic() - began
    except GravitonError as error:
        return Check("bucket", Level.PROBLEM, error.message, error.hint, {"error": error.code})
    finally:
        await store.aclose()
    text, values = f"{config.where} answers in {seconds * 1000:.1f} ms", {"seconds": round(seconds, 6)}
    if seconds > _SLOW_SECONDS:
        hint = (
            "Every small put waits for several answers: bring the two nearer to each other, or group puts (put_many)."
        )
        return Check("bucket", Level.WARNING, text, hint, values)
    return Check("bucket", Level.OK, text, values=values)


async def remove_below(config: S3Config, prefix: str) -> None:
    """Remove every object below `prefix` of the bucket: scratch places of checks, never a store's. Looks again until
    nothing is left: a put that was cancelled may still arrive."""
    store, clock = S3BlockStore(config), SystemClock()
    until = clock.monotonic() + _LATE_SECONDS
    try:
        while True:
            paths = [one.path async for one in store.driver.list(prefix, prefix)]
            for start in range(0, len(paths), 1000):
                await store.driver.delete(paths[start : start + 1000], prefix)
            late = clock.monotonic() - until
            if late > _GIVE_UP_SECONDS or (late > 0 and not paths):
                return  # some servers go on listing what they have removed
            await asyncio.sleep(_PAUSE_SECONDS)
    finally:
        await store.aclose()
