"""`S3Config`: what is refused, with the name of the setting; and that nothing shows a secret."""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from obstore import sign

from graviton.assembly.addresses import settings_of
from graviton.assembly.settings import settings_from
from graviton.backends.objectstore._credentials import ChainCredentials, aws_session
from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.backends.objectstore.clients import data_store, encryption_arguments, s3_client
from graviton.backends.objectstore.cloud import cloud_block_store
from graviton.backends.objectstore.config import Addressing, Credentials, S3Config, S3Encryption, SseMode
from graviton.backends.objectstore.reclaimer import ObjectBlockReclaimer
from graviton.core.secret import Secret
from graviton.errors import ConfigError
from graviton.testing.conformance.block_values import block
from tests.s3_proxy import Kind, S3Proxy
from tests.s3_server import moto_server

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
        "https://s3.example.org?",
        "https://s3.example.org/#",
        "HTTP://s3.example.org",
        "http://my_host:9000",
        "http://<host>:9000",
        "http://a%zz:1",
        "http://bad{host}:9000",
        "http://-host",
        "http://host-:1",
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
        (Addressing.VIRTUAL, "http://localhost:1", True),
    ],
)
def test_where_the_bucket_is_named(addressing: Addressing, endpoint: str, is_virtual: bool) -> None:
    assert S3Config("a-bucket", addressing=addressing, endpoint=endpoint).is_virtual is is_virtual


def test_missing_file_of_authorities_is_named(tmp_path: Path) -> None:
    config = replace(FULL, ca_file=tmp_path / "none.pem")
    for make in (data_store, lambda one: s3_client(one, 1)):
        with pytest.raises(ConfigError, match=r"none\.pem"):
            make(config)


@pytest.mark.parametrize("bucket", [f"AKIA:{SECRET}@a-bucket", f"{SECRET}@a-bucket", f"AKIA:{SECRET}"])
def test_keys_in_the_place_of_the_bucket_are_not_repeated(bucket: str) -> None:
    for make in (
        lambda: S3Config(bucket),
        lambda: settings_of(f"s3://{bucket}/cas", "meta.sqlite"),
        lambda: settings_from({"GRAVITON_BLOB_BACKEND": "s3", "GRAVITON_S3_BLOCK_BUCKET": bucket}),
        lambda: cloud_block_store(f"gs://{bucket}/cas"),
    ):
        with pytest.raises(ConfigError) as told:
            make()
        assert SECRET not in "".join(traceback.format_exception(told.value)) + told.value.hint


@pytest.mark.parametrize("name", ["MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"])
@pytest.mark.parametrize("inside", ["\n", "\r", "\x00", "\x1b", "\x7f", " "])
def test_variable_with_a_key_that_is_none_is_named_and_not_repeated(name: str, inside: str) -> None:
    keys = {"MINIO_ROOT_USER": "user", "MINIO_ROOT_PASSWORD": SECRET, name: f"{TOKEN}{inside}{SECRET}"}
    with pytest.raises(ConfigError) as told:
        settings_from({"GRAVITON_BLOB_BACKEND": "minio", "QUASAR_MINIO_URL": "http://h", **keys})
    assert told.value.subject == name
    assert str(told.value).startswith(f"{name}: ")
    shown = "".join(traceback.format_exception(told.value)) + told.value.hint
    assert SECRET not in shown
    assert TOKEN not in shown


@pytest.mark.parametrize("keys", [("a\nb", SECRET), ("a", f"{SECRET}\n"), ("a", SECRET, TOKEN + "\r"), ("a b", SECRET)])
def test_key_with_characters_that_none_has_is_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"the (access key|secret key|session token) of") as told:
        Credentials(keys[0], *(Secret(one) for one in keys[1:]))
    assert SECRET not in str(told.value)
    assert TOKEN not in str(told.value)


@pytest.mark.parametrize("name", ["QUASAR_MINIO_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_variable_with_a_wrong_address_is_named(name: str) -> None:
    with pytest.raises(ConfigError) as told:
        settings_from({"GRAVITON_BLOB_BACKEND": "s3", name: "localhost:9000"})
    assert told.value.subject == name


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000", "https://[::1]:9000"])
def test_no_bucket_stands_in_front_of_an_address(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="no name"):
        S3Config("a-bucket", endpoint=endpoint, addressing=Addressing.VIRTUAL)


def test_servers_of_aws() -> None:
    assert S3Config("a-bucket", region="eu-west-1").server == "https://s3.eu-west-1.amazonaws.com"
    assert S3Config("a-bucket", region="cn-north-1").server == "https://s3.cn-north-1.amazonaws.com.cn"
    for config, address in (
        (S3Config("a-bucket", region="eu-west-1"), "https://a-bucket.s3.eu-west-1.amazonaws.com"),
        (S3Config("a.bucket", region="us-east-1"), "https://s3.us-east-1.amazonaws.com/a.bucket"),
    ):
        client = s3_client(replace(config, credentials=Credentials("a", Secret("b"))), 1)
        assert client.generate_presigned_url("get_object", {"Bucket": config.bucket, "Key": "k"}).startswith(
            f"{address}/k?"
        )
        store = data_store(replace(config, credentials=Credentials("a", Secret("b"))))
        assert sign(store, "GET", "k", timedelta(1)).startswith(f"{address}/k?")
    assert S3Config("a-bucket").is_virtual
    assert not S3Config("a.bucket").is_virtual, "no certificate covers it"


STRANGE = {
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ENDPOINT": "http://127.0.0.1:9",
    "AWS_BUCKET": "another",
    "AWS_DEFAULT_REGION": "eu-south-2",
    "AWS_REGION": "eu-south-2",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_S3_EXPRESS": "true",
    "AWS_ALLOW_HTTP": "nonsense",
    "AWS_REQUEST_PAYER": "maybe",
    "AWS_UNSIGNED_PAYLOAD": "true",
    "AWS_DISABLE_BULK_DELETE": "perhaps",
    "AWS_DISABLE_TAGGING": "perhaps",
    "AWS_CONDITIONAL_PUT": "disabled",
    "AWS_COPY_IF_NOT_EXISTS": "nonsense",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    "AWS_CHECKSUM_ALGORITHM": "nonsense",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "else",
}


@pytest.mark.parametrize("name", ["", *STRANGE])
async def test_nothing_of_the_environment_sends_one_of_the_drivers_elsewhere(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With each of these variables, and with all; and a profile that names another server."""
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://127.0.0.1:9\nuse_fips_endpoint = true\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for variable, value in STRANGE.items():
        if name in ("", variable):
            monkeypatch.setenv(variable, value)
    async with S3Proxy(moto_server()) as proxy:
        bucket = moto_server().new_bucket()
        store = S3BlockStore(replace(proxy.server.config(bucket), retry_seconds=0, connect_seconds=1))
        one = block(b"the bytes")
        await store.put_blocks([one])
        assert await store.get(one.key) == one.payload
        assert [key async for key in store.list()] == [one.key]
        entry = await ObjectBlockReclaimer(store).move_to_trash(one.key, 1)
        assert entry is not None
        await store.aclose()
        assert {seen.kind for seen in proxy.seen} >= {Kind.PUT, Kind.GET, Kind.LIST, Kind.COPY, Kind.DELETE}
        for seen in proxy.seen:
            assert f"Credential={moto_server().access_key}/" in seen.headers.of("authorization")
            assert "/us-east-1/s3/" in seen.headers.of("authorization")
            if seen.kind is Kind.PUT:
                assert seen.headers.of("x-amz-checksum-sha256")
                assert seen.headers.of("x-amz-content-sha256") != "UNSIGNED-PAYLOAD"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms"),
        ("AWS_USE_FIPS_ENDPOINT", "true"),
        ("AWS_PROFILE", "a-typing-error"),
    ],
)
def test_setting_of_the_environment_that_would_count_for_one_driver_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as told:
        S3BlockStore(S3Config("a-bucket"))
    assert name in f"{told.value} {told.value.hint}"


def test_key_of_the_environment_is_refused_where_another_one_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SSE_KMS_KEY_ID", "alias/other")
    S3BlockStore(S3Config("a-bucket"))
    with pytest.raises(ConfigError, match="AWS_SSE_KMS_KEY_ID"):
        S3BlockStore(S3Config("a-bucket", encryption=S3Encryption(SseMode.KMS)))


def test_file_of_aws_settings_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("garbage [[[ \n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for make in (S3BlockStore, lambda config: s3_client(config, 1)):
        with pytest.raises(ConfigError, match="settings of AWS") as told:
            make(S3Config("a-bucket"))
        assert "AWS_CONFIG_FILE" in told.value.hint


@pytest.mark.parametrize(
    "text", ["", "not a pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], ids=range(3)
)
def test_file_of_authorities_without_any_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text(text)
    for make in (data_store, lambda one: s3_client(one, 1)):
        with pytest.raises(ConfigError, match=r"bad\.pem"):
            make(replace(FULL, ca_file=tmp_path / "bad.pem"))


@pytest.mark.parametrize(
    "make", [data_store, lambda one: s3_client(one, 1), lambda one: cloud_block_store("gs://b-b/c")]
)
def test_drivers_that_are_not_installed_are_told_with_the_way_to_get_them(
    make: Callable[[S3Config], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("obstore", "obstore.store", "obstore.exceptions", "botocore", "botocore.config"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError) as told:
        make(FULL)
    assert "pip install 'graviton[s3]'" in told.value.hint


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
    ("credentials", lambda one: repr(ChainCredentials(aws_session(one)))),
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
    keys = ChainCredentials(aws_session(FULL))()
    assert (keys["access_key_id"], keys["secret_access_key"], keys["token"]) == ("AKIA-NAME", SECRET, TOKEN)
    assert keys["expires_at"] is not None
