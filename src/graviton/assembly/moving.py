"""Moving the metadata of a store to another place: the places, as people write them, and the copy between two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from graviton.assembly import metadata_side, wiring
from graviton.assembly.places import own_places
from graviton.assembly.settings import Settings, settings_from
from graviton.concurrency.finishing import finish_anyway
from graviton.errors import ConfigError, InvalidInput
from graviton.metadata.copy import MetadataCopy
from graviton.metadata.copy_plan import Found, Place, read_found
from graviton.metadata.read_only import GuardedKeyValueStore, MetadataStore
from graviton.ports.blocks import BlockStore

__all__ = ["metadata_at", "metadata_status", "moving"]

_FILES = ("sqlite", "rocksdb")
_KINDS = (*_FILES, "postgres")


def metadata_at(settings: Settings, text: str, environment: Mapping[str, str]) -> Settings:
    """The settings with their metadata at `sqlite:PATH`, `rocksdb:PATH`, or the address of a PostgreSQL database.
    PG_USERNAME and PG_PASSWORD of the environment stand for what an address does not say. A kind alone, `sqlite`,
    `rocksdb` or `postgres`, is the place where the store has that kind, or would have it. Raises ConfigError, which
    does not quote an address, for it may hold a password."""
    kind, separator, rest = text.partition(":")
    if text == settings.metadata:
        return settings
    if text in _KINDS:
        database = {name: value for name, value in environment.items() if name.startswith("PG_")}
        own = settings_from({"GRAVITON_METADATA": text} | (database if text == "postgres" else {}))
    elif text.startswith(("postgresql://", "postgres://", "jdbc:")):
        own = _database_at(text, environment)
    elif separator and kind in _FILES and rest:
        own = settings_from({"GRAVITON_METADATA": kind, "GRAVITON_META_PATH": rest})
    else:
        raise InvalidInput(
            "this is not a place of metadata",
            operation="configure",
            hint="Write sqlite:PATH, rocksdb:PATH or postgresql://HOST/DATABASE, or sqlite, rocksdb or postgres alone.",
        )
    path = None if own.meta_path is None else own.meta_path.absolute()
    return settings._replace(metadata=own.metadata, meta_path=path, postgres=own.postgres)


def _database_at(address: str, environment: Mapping[str, str]) -> Settings:
    text = {"GRAVITON_METADATA": "postgres", "PG_JDBC_URL": address}
    own = settings_from(text)
    assert own.postgres is not None, "asked for"
    user = own.postgres.options.get("user")
    given = {} if user is not None else {"PG_USERNAME": environment.get("PG_USERNAME", "")}
    # The password of somebody else (the source is a database, too) is not sent there.
    is_theirs = user is None or environment.get("PG_USERNAME") in (None, "", user)
    if is_theirs and "password" not in own.postgres.secrets:
        given["PG_PASSWORD"] = environment.get("PG_PASSWORD", "")
    return settings_from(text | {name: value for name, value in given.items() if value})


@asynccontextmanager
async def moving(
    settings: Settings,
    target: Settings,
    *,
    replace_target: bool = False,
    aborts: bool = False,
    on_step: Callable[[str], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> AsyncIterator[MetadataCopy]:
    """A copy from the metadata of `settings` to that of `target`, whose `run` or `abort` is to be called. `aborts`: the
    target is not made if it is missing. Raises ConfigError."""
    for one in (settings, target):
        if one.metadata == "memory":
            raise ConfigError("metadata in memory cannot be moved: nobody else could open it", operation="meta.copy")
    _check_apart(settings, target)
    _check_apart(target, settings)
    async with AsyncExitStack() as opened:
        side = wiring.block_side(settings, wiring.kernel_for(settings))
        opened.push_async_callback(_close, side.blocks)
        source = _place(settings, metadata_side.open_metadata(settings, create=False))
        opened.push_async_callback(_close, source.kv)
        is_missing = aborts and not metadata_side.metadata_exists(target)
        empty = GuardedKeyValueStore(metadata_side.empty_metadata())
        there = _place(target, empty if is_missing else metadata_side.open_metadata(target, create=not aborts))
        opened.push_async_callback(_close, there.kv)
        yield MetadataCopy(
            source, there, side.markers, replace_target=replace_target, on_step=on_step, progress=progress
        )


def _check_apart(settings: Settings, other: Settings) -> None:
    """Raise InvalidInput if the other metadata lies where the store of these settings keeps something, say in the file
    that SQLite takes for its own journal. The database itself may be the same: what is found there says more."""
    if other.postgres is None:
        places = own_places(settings)
        places._replace(database=places.database[1:]).check_output(str(other.metadata_path))


async def _close(what: BlockStore | MetadataStore) -> None:
    await finish_anyway(what.aclose())


def _place(settings: Settings, kv: MetadataStore) -> Place:
    if settings.postgres is None:
        path = settings.metadata_path.absolute()
        return Place(kv, str(path), f"GRAVITON_METADATA={settings.metadata} and GRAVITON_META_PATH={path}")
    where = metadata_side.metadata_place(settings)
    return Place(kv, where, f"GRAVITON_METADATA=postgres and PG_JDBC_URL to the address of {where}")


async def metadata_status(settings: Settings) -> tuple[Place, Found] | None:
    """The metadata of these settings as found, also if nobody may use it; None if there is none. Changes nothing."""
    if not metadata_side.metadata_exists(settings):
        return None
    # What only one process may have is looked at beside the one that has it.
    looking = settings._replace(metadata_read_only=True)
    place = _place(settings, metadata_side.open_metadata(looking, create=False))
    try:
        return place, await read_found(place)
    finally:
        await _close(place.kv)
