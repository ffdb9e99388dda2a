"""`graviton.open`: the way in for programs, which reads no variables of ours; and the one that reads nothing else."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from graviton.assembly.addresses import settings_of
from graviton.assembly.cache_settings import DEFAULT_CACHE_BYTES, CacheSettings, check_cache_bytes
from graviton.assembly.opening import store_for
from graviton.assembly.settings import client_settings_from, settings_from
from graviton.constraints.budget import DEFAULT_BUDGET_BYTES
from graviton.core.chunking.spec import ChunkerSpec
from graviton.core.hashing import HashAlgo
from graviton.core.policies import StorePolicy
from graviton.core.secret import Secret
from graviton.errors import ConfigError
from graviton.ports.any_store import AnyStore
from graviton.ports.events import EventSink
from graviton.ports.metrics import MetricsRegistry

__all__ = ["open", "open_from_environment"]


def open(
    root: str | os.PathLike[str],
    *,
    metadata: str | os.PathLike[str] | None = None,
    policy: StorePolicy | None = None,
    hash: HashAlgo | str | None = None,
    chunker: ChunkerSpec | str | None = None,
    memory_bytes: int = DEFAULT_BUDGET_BYTES,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    metrics: MetricsRegistry | None = None,
    events: EventSink | None = None,
    token: str | Secret | None = None,
) -> AnyStore:
    """The store in the folder `root`: blocks as files and metadata in SQLite beside them, no server.

    `root` may also be an address: `file:///PATH`, `memory://` (gone with the object), `s3://BUCKET/PREFIX`, with
    `?endpoint=https://HOST` and `&region=…` where they are not AWS's defaults, `gs://BUCKET/PREFIX` or
    `az://CONTAINER/PREFIX`; keys come from where the tools of these clouds have them, never from an address.
    `metadata` is the file of an SQLite database, a folder for RocksDB (`rocksdb:///PATH`, or `rocksdb://` for one in
    `root`) or the address of a PostgreSQL database (`postgresql://…`); a bucket needs it said.

    Or `root` is the address of a Graviton server, `https://HOST` or `http://HOST:PORT`, that wants `token`: its store
    is used as one here is (docs/guides/client.md). What is not of this side is refused then: `metadata`, `cache`,
    `events`; `hash` and `chunker` are those of puts whose plan has none.

    Touches nothing until it is used; the first put makes the store. `policy` applies to puts whose plan has none.
    `hash` and `chunker` (a spec or preset) are for a store that is made now, or override what it was made with.
    `memory_bytes` is the budget of the whole process: the first store decides. `cache` is a folder on a local disk that
    keeps blocks of a bucket once they were read, up to `cache_bytes` (docs/guides/caching.md). Raises InvalidInput for
    values that are malformed, ConfigError for another budget than that of the stores before.
    """
    settings = settings_of(root, metadata, token)
    if settings.server is not None and (cache is not None or events is not None):
        raise ConfigError(
            "the store of a server has its cache and its events there",
            operation="configure",
            subject="events" if cache is None else "cache",
            hint="Leave it out.",
        )
    settings = settings._replace(
        hash=HashAlgo.parse(hash) if isinstance(hash, str) else hash,
        chunker=ChunkerSpec.parse(chunker) if isinstance(chunker, str) else chunker,
        memory_bytes=memory_bytes,
        cache=_cache(cache, cache_bytes),
    )
    return store_for(settings, policy=policy, metrics=metrics, events=events)


def _cache(root: str | os.PathLike[str] | None, size: int) -> CacheSettings | None:
    if check_cache_bytes(size) == 0 or root is None:
        return None
    return CacheSettings(Path(root).absolute(), size)


def open_from_environment(
    environment: Mapping[str, str] | None = None,
    *,
    policy: StorePolicy | None = None,
    metrics: MetricsRegistry | None = None,
    events: EventSink | None = None,
) -> AnyStore:
    """The store that environment variables name (`os.environ` unless others are given), as the command line opens it:
    on PostgreSQL with GRAVITON_METADATA=postgres and PG_JDBC_URL, say, or that of the server at GRAVITON_URL.
    docs/guides/configuration.md lists them.

    Touches nothing until it is used. What is worth saying about the settings (a variable that is unknown) is warned of.
    Raises ConfigError naming the variable that is wrong.
    """
    given = os.environ if environment is None else environment
    settings = client_settings_from(given) or settings_from(given)
    for warning in settings.warnings:
        warnings.warn(warning, UserWarning, stacklevel=2)
    return store_for(settings, policy=policy, metrics=metrics, events=events)
