"""`graviton doctor`: versions, settings, and whether everything is in order for a store here."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from graviton.cli.call import Call
from graviton.cli.options import command
from graviton.errors import ConfigError, GravitonError

if TYPE_CHECKING:
    from graviton.assembly.settings import Settings
    from graviton.services.doctor import Check

__all__ = ["doctor"]

_MARKS = {"ok": "ok     ", "warning": "WARNING", "problem": "PROBLEM"}

_SECRETS = ("GRAVITON_API_TOKEN", "MINIO_ROOT_PASSWORD", "PG_PASSWORD", "PG_JDBC_URL")
"""Variables whose values are never printed; a database's URL may carry a password."""


@command()
async def doctor(call: Call) -> int:
    """Check this installation and this store's surroundings.

    Works without a store and changes nothing. Exit code 1 if something is wrong.
    """
    wrong = warned = 0
    async for check in _checks(call):
        wrong += check.level == "problem"
        warned += check.level == "warning"
        hint = f"\n        {check.hint}" if check.hint else ""
        call.out.result(f"{_MARKS[check.level.value]} {check.name}: {check.text}{hint}", **check.to_json())
    text = "all in order" if not wrong else f"{wrong} to be put right"
    call.out.result(
        f"{text}{f', {warned} to be aware of' if warned else ''}",
        summary="doctor",
        healthy=not wrong,
        problems=wrong,
        warnings=warned,
    )
    return 1 if wrong else 0


async def _checks(call: Call) -> AsyncIterator[Check]:
    from graviton.services.doctor import Check, Level, check_entries, check_limits, check_place, check_store

    yield _versions()
    try:
        settings = call.settings()
    except ConfigError as error:
        yield Check("settings", Level.PROBLEM, error.message, error.hint or "Correct the variable or unset it.")
        return
    for check in _settings_checks(call, settings):
        yield check
    yield _kernel_check(settings)
    for check in check_limits(settings.memory_bytes):
        yield check
    if settings.blob_backend == "fs":
        for check in check_place("blocks", settings.fs_root):
            yield check
        for algo in ("blake3", "sha256"):
            yield check_entries(settings.fs_root / settings.fs_block_prefix / algo)
    if settings.s3 is not None:
        from graviton.assembly.buckets import check_bucket

        yield await check_bucket(settings.s3)
    if settings.cache is not None:
        from graviton.assembly.caches import check_cache

        yield check_cache(settings.cache)
    if settings.metadata in ("sqlite", "rocksdb"):
        for check in check_place("metadata", settings.metadata_path.parent, holds_metadata=True):
            yield check
    if settings.metadata == "rocksdb":
        yield _holder_check(settings)
    if settings.postgres is not None:
        from graviton.assembly.database import check_database

        async for check in check_database(settings):
            yield check
    yield await check_store(lambda: _look(call))


def _holder_check(settings: Settings) -> Check:
    from graviton.assembly.metadata_side import metadata_holder
    from graviton.services.doctor import Check, Level

    holder = metadata_holder(settings)
    if holder is None:
        return Check("metadata.in_use", Level.OK, "no process has the metadata open", values={"holder": ""})
    text = f"{holder} has the metadata open: other commands wait for it with --lock-wait, or are refused"
    return Check("metadata.in_use", Level.OK, text, values={"holder": holder})


def _versions() -> Check:
    import sqlite3

    from graviton._version import __version__
    from graviton.services.doctor import Check, Level

    values = {
        "graviton": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    text = f"graviton {__version__}, Python {values['python']} ({sys.executable}), SQLite {values['sqlite']}"
    return Check("versions", Level.OK, f"{text}, {values['system']}", values=values)


def _kernel_check(settings: Settings) -> Check:
    from graviton.assembly.wiring import kernel_for
    from graviton.services.doctor import Check, Level, check_kernel

    try:
        return check_kernel(kernel_for(settings))
    except GravitonError as error:
        return Check("kernel", Level.PROBLEM, error.message, error.hint)


def _settings_checks(call: Call, settings: Settings) -> Iterator[Check]:
    from graviton.services.doctor import Check, Level

    for name, value, source in _settings(call, settings):
        yield Check(
            "setting",
            Level.OK,
            f"{name} = {value}  ({source})",
            values={"name": name, "value": value, "source": source},
        )
    for warning in settings.warnings:
        yield Check("setting", Level.WARNING, warning, "Correct its name or unset it: it has no effect.")


def _settings(call: Call, settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Name, value and source of what is in effect."""
    effective: dict[str, Any] = {
        "GRAVITON_BLOB_BACKEND": settings.blob_backend,
        **_places(settings),
        "GRAVITON_METADATA": settings.metadata,
        **_metadata_settings(settings),
        "GRAVITON_HASH": settings.hash.value if settings.hash else "as the store was made with",
        "GRAVITON_CHUNKER": settings.chunker.text if settings.chunker else "as the store was made with",
        "GRAVITON_KERNEL": settings.kernel,
        "GRAVITON_MEMORY_BYTES": settings.memory_bytes,
        **_cache(settings),
    }
    for name, value in effective.items():
        if name == "GRAVITON_FS_ROOT" and call.root is not None:
            yield name, str(value), "--root"
        else:
            yield name, str(value), "environment" if os.environ.get(name, "").strip() else "default"
    for name in _SECRETS:
        if os.environ.get(name):
            yield name, "(set, not shown)", "environment"


def _cache(settings: Settings) -> dict[str, Any]:
    cache = settings.cache
    if cache is None:
        return {"GRAVITON_CACHE_ROOT": "(no cache)"}
    return {"GRAVITON_CACHE_ROOT": cache.root, "GRAVITON_CACHE_BYTES": cache.max_bytes}


def _metadata_settings(settings: Settings) -> dict[str, Any]:
    """Where metadata in files lie, and who may have them."""
    if settings.metadata not in ("sqlite", "rocksdb"):
        return {}
    found: dict[str, Any] = {"GRAVITON_META_PATH": settings.metadata_path.absolute()}
    return found | ({"GRAVITON_LOCK_WAIT": settings.lock_wait_seconds} if settings.metadata == "rocksdb" else {})


def _places(settings: Settings) -> dict[str, Any]:
    """Where blocks lie."""
    places: dict[str, Any] = {"GRAVITON_FS_ROOT": settings.fs_root.absolute()}
    if settings.s3 is None:
        return places | {"GRAVITON_FS_BLOCK_PREFIX": settings.fs_block_prefix}
    from graviton.assembly.environment import Reader
    from graviton.assembly.s3_settings import endpoint_variable

    bucket = settings.s3
    return places | {
        endpoint_variable(Reader(os.environ), settings.blob_backend): bucket.endpoint or "(AWS)",
        "GRAVITON_S3_BLOCK_BUCKET": bucket.bucket,
        "GRAVITON_S3_BLOCK_PREFIX": bucket.prefix,
        "GRAVITON_S3_REGION": bucket.region,
        "AWS_SERVER_SIDE_ENCRYPTION": bucket.encryption.mode.value or "(as the bucket does)",
    }


async def _look(call: Call) -> dict[str, Any] | None:
    # What only one process may have is looked at beside the one that has it.
    async with call.store(call.settings()._replace(metadata_read_only=True)) as store:
        marker = await store.marker()
        if marker is None:
            return None
        totals = await store.totals()
        found = {"store_id": marker.store_id, "hash": marker.hash.value, "chunker": marker.chunker}
        moved = await store.read_only()
        if moved is not None:
            found |= {"moved_to": moved.place}
            found |= {"settings": moved.settings} if moved.state.value == "moved" else {}
        return found | {"blobs": totals.blobs, "unique_blocks": totals.blocks}
