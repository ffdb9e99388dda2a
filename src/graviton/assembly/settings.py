"""Environment variables as frozen, checked settings. Names and defaults: docs/guides/configuration.md.

A value that is present but wrong stops the start with a message that names the variable; an unknown `GRAVITON_*` is a
warning, because a misspelt name would otherwise be ignored in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from graviton.assembly.cache_settings import CacheSettings, cache_settings
from graviton.assembly.environment import Reader, parse_path, parse_size
from graviton.assembly.limit_settings import LimitSettings, limit_settings
from graviton.assembly.postgres_settings import postgres_settings
from graviton.assembly.server_address import exposure, server_at
from graviton.constraints.budget import DEFAULT_BUDGET_BYTES
from graviton.core.chunking.spec import ChunkerSpec
from graviton.core.hashing import HashAlgo
from graviton.core.secret import Secret
from graviton.errors import ConfigError, InvalidInput

if TYPE_CHECKING:
    from graviton.backends.http import HttpConfig
    from graviton.backends.objectstore.config import S3Config
    from graviton.backends.postgres.config import PgConfig

__all__ = ["Settings", "client_settings_from", "parse_lock_wait", "settings_from"]

MIN_MEMORY_BYTES = 32 * 1024 * 1024
"""A put with the largest blocks needs 17 MiB at once, and puts together may use three quarters of the budget."""

DEFAULT_ROOT = "./.graviton"
DEFAULT_PREFIX = "cas/blocks"

_BLOB_BACKENDS = ("fs", "memory", "s3", "minio")
_METADATA = ("sqlite", "memory", "rocksdb", "postgres")
_KERNELS = ("auto", "native", "python")
_FILES = {"rocksdb": "meta.rocks"}
"""What the metadata is called in the root, if not `meta.sqlite`."""
_MAX_LOCK_WAIT_SECONDS = 3600

KNOWN = frozenset(
    "GRAVITON_" + name
    for name in (
        "API_TOKEN",
        "BLOB_BACKEND",
        "CACHE_BYTES",
        "CACHE_ROOT",
        "CHUNKER",
        "DOWNLOAD_RATE",
        "FS_BLOCK_PREFIX",
        "FS_ROOT",
        "HASH",
        "HTTP_DOWNLOADS",
        "HTTP_HOST",
        "HTTP_MAX_BLOB_BYTES",
        "HTTP_PORT",
        "HTTP_REQUEST_RATE",
        "HTTP_TLS_CERT",
        "HTTP_TLS_KEY",
        "HTTP_UPLOADS",
        "HTTP_WORKERS",
        "KERNEL",
        "LOCK_WAIT",
        "LOG_FORMAT",
        "LOG_LEVEL",
        "MEMORY_BYTES",
        "METADATA",
        "META_PATH",
        "QUOTA_BLOBS",
        "QUOTA_BYTES",
        "QUOTA_HOLDER_BLOBS",
        "QUOTA_HOLDER_BYTES",
        "REQUIRE_BACKENDS",
        "S3_BLOCK_BUCKET",
        "S3_BLOCK_PREFIX",
        "S3_REGION",
        "SPILL_BYTES",
        "SPILL_ROOT",
        "TEST_PG_URL",
        "TEST_S3_URL",
        "UPLOAD_LIFETIME",
        "UPLOAD_MAX_OPEN",
        "UPLOAD_RATE",
        "URL",
    )
)
"""Every name there is; others are warned of. Names of the form `_GRAVITON_*` belong to the shell's completion."""


class Settings(NamedTuple):
    """Everything a store is made from. `None` means: what the store itself was made with."""

    blob_backend: str = "fs"
    fs_root: Path = Path(DEFAULT_ROOT)
    fs_block_prefix: str = DEFAULT_PREFIX
    metadata: str = "sqlite"
    meta_path: Path | None = None
    """Where the metadata lies if not in `fs_root`; a file or folder, so of no meaning to PostgreSQL."""
    hash: HashAlgo | None = None
    chunker: ChunkerSpec | None = None
    kernel: str = "auto"
    memory_bytes: int = DEFAULT_BUDGET_BYTES
    warnings: tuple[str, ...] = ()
    """What is worth saying and does not stop the start."""
    postgres: PgConfig | None = None
    """The database, with `metadata` postgres."""
    s3: S3Config | None = None
    """The bucket, with `blob_backend` s3 or minio."""
    bucket_url: str = ""
    """`gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`, with `blob_backend` gs or az, which no variable says."""
    cache: CacheSettings | None = None
    """Where blocks that were read are kept nearby; None for nowhere."""
    metadata_read_only: bool = False
    """Look at RocksDB's metadata as they are now, also while another process has them open."""
    lock_wait_seconds: float = 0.0
    """How long to wait for a process that has the metadata for itself: RocksDB's only."""
    limits: LimitSettings = LimitSettings()
    """How much may be kept, how fast it comes and goes, and where it waits."""
    server: HttpConfig | None = None
    """The server that has the store; then nothing above matters but hash, chunker, memory and warnings."""

    @property
    def spill_root(self) -> Path:
        """Where bytes wait that are not stored yet."""
        return self.limits.spill_root or self.fs_root.absolute() / "spill"

    @property
    def metadata_path(self) -> Path:
        """The metadata's file, or with RocksDB its folder."""
        return self.meta_path or self.fs_root / _FILES.get(self.metadata, "meta.sqlite")


def settings_from(environment: Mapping[str, str], root: Path | None = None) -> Settings:
    """Settings of a store from environment variables, whatever GRAVITON_URL says; `root` takes the place of
    GRAVITON_FS_ROOT. Raises ConfigError naming the variable that is wrong."""
    get = Reader(environment)
    blob_backend = get.choice("GRAVITON_BLOB_BACKEND", _BLOB_BACKENDS, "fs")
    metadata = get.choice("GRAVITON_METADATA", _METADATA, "sqlite")
    cache, remarks = cache_settings(get, blob_backend)
    settings = Settings(
        blob_backend=blob_backend,
        fs_root=root if root is not None else get.value("GRAVITON_FS_ROOT", parse_path, Path(DEFAULT_ROOT)),
        fs_block_prefix=get.value("GRAVITON_FS_BLOCK_PREFIX", _prefix, DEFAULT_PREFIX),
        metadata=metadata,
        meta_path=get.value("GRAVITON_META_PATH", parse_path, None),
        hash=get.value("GRAVITON_HASH", HashAlgo.parse, None),
        chunker=get.value("GRAVITON_CHUNKER", ChunkerSpec.parse, None),
        kernel=get.choice("GRAVITON_KERNEL", _KERNELS, "auto"),
        lock_wait_seconds=get.value("GRAVITON_LOCK_WAIT", parse_lock_wait, 0.0),
        memory_bytes=get.value("GRAVITON_MEMORY_BYTES", _memory, DEFAULT_BUDGET_BYTES),
        limits=limit_settings(get),
        warnings=(*_unknown(environment), *remarks),
        postgres=postgres_settings(get, is_used=metadata == "postgres"),
        cache=cache,
    )
    if metadata == "rocksdb":
        _check_rocksdb()
    if blob_backend in ("s3", "minio"):
        from graviton.assembly.s3_settings import s3_settings

        settings = settings._replace(s3=s3_settings(get, blob_backend))
    return settings


def client_settings_from(environment: Mapping[str, str], url: str | None = None) -> Settings | None:
    """Settings for using the server at `url`, or at GRAVITON_URL; None if neither says one. Raises ConfigError."""
    get = Reader(environment)
    address = url or get.value("GRAVITON_URL", str, "")
    if not address:
        return None
    server = server_at(address, get.value("GRAVITON_API_TOKEN", Secret, None))
    return Settings(
        server=server,
        hash=get.value("GRAVITON_HASH", HashAlgo.parse, None),
        chunker=get.value("GRAVITON_CHUNKER", ChunkerSpec.parse, None),
        memory_bytes=get.value("GRAVITON_MEMORY_BYTES", _memory, DEFAULT_BUDGET_BYTES),
        warnings=(*_unknown(environment), *filter(None, (exposure(server),))),
    )


def _check_rocksdb() -> None:
    if find_spec("rocksdict") is None:
        raise ConfigError(
            "GRAVITON_METADATA=rocksdb needs the package rocksdict, and it is not installed",
            operation="configure",
            subject="GRAVITON_METADATA",
            hint="Install it: pip install 'graviton[rocksdb]'.",
        )


_SECONDS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?", re.ASCII)


def parse_lock_wait(text: str) -> float:
    """Seconds from `5` or `0.5`. Raises InvalidInput."""
    if not _SECONDS.fullmatch(text) or float(text) > _MAX_LOCK_WAIT_SECONDS:
        raise InvalidInput(
            f"{text[:40]!r} is no time to wait", hint=f"Write seconds, from 0 to {_MAX_LOCK_WAIT_SECONDS}."
        )
    return float(text)


def _memory(text: str) -> int:
    size = parse_size(text)
    if size < MIN_MEMORY_BYTES:
        raise InvalidInput(f"a memory budget has at least {MIN_MEMORY_BYTES} bytes, not {size}")
    return size


def _prefix(text: str) -> str:
    from graviton.backends.filesystem import FsConfig  # it knows what else lies in the root

    try:
        return FsConfig(Path(DEFAULT_ROOT), text).prefix
    except ConfigError as error:
        raise InvalidInput(error.message, hint=error.hint) from error


def _unknown(environment: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"unknown environment variable {name}"
        for name in sorted(environment)
        if name.startswith("GRAVITON_") and name not in KNOWN
    )
