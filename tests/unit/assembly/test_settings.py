"""Environment variables become settings, or an error that names the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from graviton.assembly.settings import KNOWN, Settings, parse_size, settings_from
from graviton.core.chunking.spec import PRESETS
from graviton.core.hashing import HashAlgo
from graviton.errors import ConfigError, InvalidInput


def test_nothing_set_gives_the_documented_defaults() -> None:
    assert settings_from({}) == Settings()
    settings = Settings()
    assert (settings.blob_backend, settings.metadata, settings.kernel) == ("fs", "sqlite", "auto")
    assert (settings.fs_root, settings.fs_block_prefix) == (Path("./.graviton"), "cas/blocks")
    assert settings.metadata_path == Path("./.graviton/meta.sqlite")
    assert settings.memory_bytes == 128 * 1024 * 1024


def test_every_variable_is_taken() -> None:
    settings = settings_from(
        {
            "GRAVITON_BLOB_BACKEND": "memory",
            "GRAVITON_FS_ROOT": "/data",
            "GRAVITON_FS_BLOCK_PREFIX": "b",
            "GRAVITON_METADATA": "memory",
            "GRAVITON_META_PATH": "/meta/m.sqlite",
            "GRAVITON_HASH": "sha-256",
            "GRAVITON_CHUNKER": "dedup",
            "GRAVITON_KERNEL": "python",
            "GRAVITON_MEMORY_BYTES": "64MiB",
            "GRAVITON_LOCK_WAIT": "2.5",
        }
    )
    assert settings == Settings(
        "memory",
        Path("/data"),
        "b",
        "memory",
        Path("/meta/m.sqlite"),
        HashAlgo.SHA256,
        PRESETS["dedup"],
        "python",
        64 * 1024 * 1024,
        lock_wait_seconds=2.5,
    )


def test_rocksdb_lies_in_a_folder_of_its_own() -> None:
    settings = settings_from({"GRAVITON_METADATA": "rocksdb", "GRAVITON_FS_ROOT": "/data"})
    assert settings.metadata_path == Path("/data/meta.rocks")
    assert settings_from({"GRAVITON_METADATA": "rocksdb", "GRAVITON_META_PATH": "/m"}).metadata_path == Path("/m")


def test_the_root_given_wins_over_the_variable() -> None:
    assert settings_from({"GRAVITON_FS_ROOT": "/data"}, Path("/other")).metadata_path == Path("/other/meta.sqlite")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRAVITON_BLOB_BACKEND", "tape"),
        ("GRAVITON_METADATA", "excel"),
        ("GRAVITON_HASH", "md5"),
        ("GRAVITON_CHUNKER", "w16:1:2:3"),
        ("GRAVITON_KERNEL", "fast"),
        ("GRAVITON_MEMORY_BYTES", "lots"),
        ("GRAVITON_MEMORY_BYTES", "1MiB"),
        ("GRAVITON_BLOB_BACKEND", "minio"),
        ("GRAVITON_LOCK_WAIT", "soon"),
        ("GRAVITON_LOCK_WAIT", "3601"),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        settings_from({name: value})


PG = "postgresql://"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("GRAVITON_CACHE_BYTES", ["much", "-1", "1.5G"]),
        ("GRAVITON_FS_BLOCK_PREFIX", ["/cas", "cas/", "a/../b", "a b", "a\nb", "trash/x"]),
        ("PG_JDBC_URL", ["localhost/db", "mysql://h/db", "jdbc:postgres://h/db", "jdbc:", PG, f"{PG}h:0/db"]),
        ("PG_JDBC_URL", [f"{PG}h:x/db", f"{PG}a:5432,b:99999/db", f"{PG}h/my db"]),
    ],
)
def test_what_is_not_used_yet_is_checked_all_the_same(name: str, values: list[str]) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=name) as caught:
            settings_from({name: value})
        assert caught.value.subject == name
        assert len(str(caught.value)) < 300


def test_no_part_of_a_database_url_is_told() -> None:
    for url in ("pg://me:secret@h/db", f"{PG}me:secret@h:secret/db", f"{PG}me:secret@h/d b", "secret"):
        with pytest.raises(ConfigError) as caught:
            settings_from({"PG_JDBC_URL": url})
        told = (str(caught.value), caught.value.subject, caught.value.hint, repr(caught.value.__cause__))
        assert "secret" not in " ".join(told)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PG_JDBC_URL", "jdbc:postgresql://localhost:5432/graviton?user=me&password=p"),
        ("PG_JDBC_URL", "jdbc:postgresql:///graviton?host=/var/run/postgresql"),
        ("PG_JDBC_URL", "postgres://me:p%40ss@[::1]:5432/graviton"),
        ("PG_JDBC_URL", "postgresql://%2Fvar%2Frun%2Fpostgresql/graviton"),
        ("PG_JDBC_URL", "postgresql:///graviton?host=/var/run/postgresql"),
        ("PG_JDBC_URL", "postgresql://[::1]/graviton"),
        ("PG_JDBC_URL", "postgresql://a:1,b:2/graviton?target_session_attrs=any"),
    ],
)
def test_what_is_right_and_not_used_yet_is_no_error(name: str, value: str) -> None:
    assert settings_from({name: value}) == Settings()


def test_a_blank_value_is_no_value_and_unknown_names_are_warned_of() -> None:
    settings = settings_from({"GRAVITON_HASH": " ", "GRAVITON_CHUNKR": "x", "PATH": "/bin"})
    assert settings.hash is None
    assert settings.warnings == ("unknown environment variable GRAVITON_CHUNKR",)
    assert settings_from(dict.fromkeys(KNOWN, "")).warnings == ()


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("1K", 1024), ("2MiB", 2 * 1024**2), ("3GB", 3 * 1000**3), ("5 MiB/s", 5 * 1024**2)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5M", "1mib", "MiB", "9" * 40, "١"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_size(text)
