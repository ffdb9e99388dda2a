"""Where a store lies, said in one text: a folder, or an address such as `s3://bucket/prefix`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from graviton.assembly.proxies import proxy_to
from graviton.assembly.server_address import is_server, server_at
from graviton.assembly.settings import Settings
from graviton.core.locators import DEFAULT_BLOCK_PREFIX
from graviton.core.secret import Secret
from graviton.errors import ConfigError

__all__ = ["settings_of"]


def settings_of(
    root: str | os.PathLike[str], metadata: str | os.PathLike[str] | None, token: str | Secret | None = None
) -> Settings:
    """Settings of the store at `root`, with its metadata in `metadata`: the file of an SQLite database, `rocksdb://`
    and a folder, or the address of a PostgreSQL database; or of the server at `root`, which wants `token`. Raises
    ConfigError."""
    text = os.fspath(root)
    if is_server(text):
        _refuse("the store of a server has its metadata there", metadata=metadata)
        return Settings(server=server_at(text, token))
    _refuse("only a server (http://, https://) wants a token", token=token)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _with_metadata(Settings(fs_root=Path(text)), metadata)
    if scheme == "file":
        if not rest.startswith("/"):
            raise _wrong(f"an address of a folder is file:///PATH, not {text[:80]!r}")
        return _with_metadata(Settings(fs_root=Path(unquote(rest))), metadata)
    if scheme == "memory":
        if rest.strip("/"):
            raise _wrong("memory:// has no path: nobody else could open it")
        return _with_metadata(Settings(blob_backend="memory", metadata="memory"), metadata)
    if scheme not in ("s3", "gs", "az"):
        raise _wrong(f"addresses begin with file, memory, s3, gs, az, http or https, not {scheme[:20]!r}")
    if metadata is None:
        raise ConfigError(
            f"a store in a bucket ({scheme}://) needs to know where its metadata is",
            operation="configure",
            subject="metadata",
            hint="Give metadata='/srv/meta.sqlite', or metadata='postgresql://HOST/DATABASE' for several machines.",
        )
    return _with_metadata(_in_bucket(scheme, text, rest), metadata)


def _refuse(why: str, **options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise ConfigError(why, operation="configure", subject=name, hint=f"Leave {name} out.")


def _in_bucket(scheme: str, text: str, rest: str) -> Settings:
    if scheme != "s3":
        return Settings(blob_backend=scheme, bucket_url=text)
    from graviton.backends.objectstore import S3Config

    place, _, query = rest.partition("?")
    bucket, _, prefix = place.partition("/")
    config = S3Config(bucket, prefix.strip("/") or DEFAULT_BLOCK_PREFIX)
    for name, value in parse_qsl(query, keep_blank_values=True):
        match name:
            case "region":
                config = replace(config, region=value)
            case "endpoint":
                config = replace(config, endpoint=value)
            case _:
                raise _wrong(f"an address of a bucket has the options region and endpoint, not {name[:40]!r}")
    return Settings(blob_backend="s3", s3=replace(config, proxy=proxy_to(config.address)))


def _with_metadata(settings: Settings, metadata: str | os.PathLike[str] | None) -> Settings:
    if metadata is None:
        return settings
    text = os.fspath(metadata)
    if text.startswith("rocksdb://"):
        return settings._replace(metadata="rocksdb", meta_path=_rocksdb_path(text))
    if not text.startswith(("postgresql://", "postgres://", "jdbc:")):
        return settings._replace(metadata="sqlite", meta_path=Path(text))
    from graviton.backends.postgres.config import parse_address

    return settings._replace(metadata="postgres", postgres=parse_address(text))


def _rocksdb_path(text: str) -> Path | None:
    """The folder; None where none is said, so that it lies beside the blocks."""
    rest = text.removeprefix("rocksdb://")
    if rest and not rest.startswith("/"):
        raise _wrong(f"an address of RocksDB is rocksdb:///PATH, or rocksdb:// beside the blocks, not {text[:80]!r}")
    return Path(unquote(rest)) if rest else None


def _wrong(text: str) -> ConfigError:
    return ConfigError(
        text,
        operation="configure",
        subject="address",
        hint="Write a folder, file:///PATH, memory://, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or"
        " https://HOST.",
    )
