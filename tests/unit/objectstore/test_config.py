"""`S3Config`: what is refused, with the name of the setting; and that nothing shows a secret."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.backends.objectstore.clients import _Credentials, _session, data_store, encryption_arguments, s3_client
from graviton.backends.objectstore.config import Addressing, Credentials, S3Config, S3Encryption, SseMode
from graviton.core.secret import Secret
from graviton.errors import ConfigError

pytestmark = pytest.mark.s3

SECRET, TOKEN = "the-secret-of-the-key", "the-session-token"
FULL = S3Config(
    "a-bucket",
    endpoint="https://s3.example.org:9000",
    credentials=Credentials("AKIA-NAME", Secret(SECRET), Secret(TOKEN)),
    encryption=S3Encryption(SseMode.KMS, "alias/ours", bucket_key=True),
)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(
            ("bucket", bad)
            for bad in ("", "ab", "A-Bucket", "a_bucket", "-bucket", "b" * 64, "a/b", "a-bucket\n", "é-b")
        ),
        *(("prefix", bad) for bad in ("/x", "x/", "a//b", "a/../b", "a\x00b", "p" * 2000)),
        *(("region", bad) for bad in ("", "eu west", "eu-west-1\n", "x" * 65)),
        *(("max_requests", bad) for bad in (0, 257, -1)),
        *(("max_request_bytes", bad) for bad in (0, 1024)),
        *(("part_bytes", bad) for bad in (0, 5 * 1024 * 1024 - 1, 6 * 1024**3)),
        *(("parallel_parts", bad) for bad in (0, 65)),
        *(("copy_part_bytes", bad) for bad in (1, 5 * 1024**3 + 1)),
        *(("connect_seconds", bad) for bad in (0, -1, 3601, float("nan"), float("inf"))),
        *(("request_seconds", bad) for bad in (0, float("nan"))),
        *(("retry_seconds", bad) for bad in (-0.1, 3601, float("nan"))),
    ],
)
def test_setting_out_of_bounds_is_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ConfigError) as told:
        S3Config(**({"bucket": "a-bucket"} | {setting: value}))  # type: ignore[arg-type]
    assert told.value.subject == setting
    assert len(str(told.value)) < 300


@pytest.mark.parametrize(
    "endpoint",
    [
        "s3.example.org",
        "ftp://s3.example.org",
        "https://",
        "https://:9000",
        f"https://user:{SECRET}@s3.example.org",
        f"https://{SECRET}@s3.example.org",
        f"https://s3.example.org?key={SECRET}",
        f"https://s3.example.org/#{SECRET}",
        f"https://s3.example.org/{SECRET}",
        f"https://s3.example.org:{SECRET}",
        "https://s3.example.org:99999",
        "https://s3.example.org:0",
        "https://[::1",
        "https://s3.exämple.org",
        "https://s3.example.org\n",
        "https://s3.exam ple.org",
    ],
)
def test_address_that_is_none_is_refused_and_not_repeated(endpoint: str) -> None:
    with pytest.raises(ConfigError) as told:
        S3Config("a-bucket", endpoint=endpoint)
    assert told.value.subject == "endpoint"
    assert told.value.hint
    assert SECRET not in "".join(traceback.format_exception(told.value)) + told.value.hint


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:9000", "https://s3.example.org", "https://[::1]:9000/"])
def test_address_of_a_server(endpoint: str) -> None:
    assert S3Config("a-bucket", endpoint=endpoint).endpoint == endpoint


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: S3Encryption(SseMode.S3, "alias/ours"),
        lambda: S3Encryption(SseMode.NONE, "alias/ours"),
        lambda: S3Encryption(SseMode.S3, bucket_key=True),
        lambda: S3Encryption(SseMode.KMS_TWICE, bucket_key=True),
    ],
)
def test_encryption_that_contradicts_itself(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        wrong()


def test_encryption_is_the_same_for_both_drivers() -> None:
    assert encryption_arguments(S3Encryption()) == {}
    assert encryption_arguments(S3Encryption(SseMode.S3)) == {"ServerSideEncryption": "AES256"}
    assert encryption_arguments(FULL.encryption) == {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "alias/ours",
        "BucketKeyEnabled": True,
    }
    for mode in SseMode:
        data_store(replace(FULL, encryption=S3Encryption(mode)))


@pytest.mark.parametrize(
    ("addressing", "endpoint", "is_virtual"),
    [
        (Addressing.AUTO, "", True),
        (Addressing.AUTO, "http://127.0.0.1:1", False),
        (Addressing.PATH, "", False),
        (Addressing.VIRTUAL, "http://127.0.0.1:1", True),
    ],
)
def test_where_the_bucket_is_named(addressing: Addressing, endpoint: str, is_virtual: bool) -> None:
    assert S3Config("a-bucket", addressing=addressing, endpoint=endpoint).is_virtual is is_virtual


def test_missing_file_of_authorities_is_named(tmp_path: Path) -> None:
    config = replace(FULL, ca_file=tmp_path / "none.pem")
    for make in (data_store, lambda one: s3_client(one, 1)):
        with pytest.raises(ConfigError, match=r"none\.pem"):
            make(config)


SHOWS: list[tuple[str, Callable[[S3Config], Any]]] = [
    ("repr", repr),
    ("str", str),
    ("format", lambda one: f"{one} {one.credentials} {one.credentials.secret_key:>40}"),
    ("where", lambda one: one.where),
    ("replace", lambda one: repr(replace(one, region="eu-west-1"))),
    ("driver", lambda one: repr(data_store(one))),
    ("driver's settings", lambda one: repr((data_store(one).config, data_store(one).client_options))),
    ("client", lambda one: repr((s3_client(one, 1), s3_client(one, 1).meta.config))),
    ("store", lambda one: repr((S3BlockStore(one), vars(S3BlockStore(one))))),
    ("credentials", lambda one: repr(_Credentials(_session(one)))),
]


@pytest.mark.parametrize("show", [show for _, show in SHOWS], ids=[name for name, _ in SHOWS])
def test_nothing_shows_a_secret(show: Callable[[S3Config], str]) -> None:
    text = show(FULL)
    assert SECRET not in text
    assert TOKEN not in text


def test_secret_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="secret"):
        pickle.dumps(FULL)
    without = replace(FULL, credentials=None)
    assert pickle.loads(pickle.dumps(without)) == without


def test_both_drivers_get_the_same_keys() -> None:
    keys = _Credentials(_session(FULL))()
    assert (keys["access_key_id"], keys["secret_access_key"], keys["token"]) == ("AKIA-NAME", SECRET, TOKEN)
    assert keys["expires_at"] is not None
