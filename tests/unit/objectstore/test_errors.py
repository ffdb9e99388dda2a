"""What the drivers raise becomes one of our errors: the table of docs/object-storage.md, asked of both drivers."""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as botocore
from botocore.parsers import ResponseParserError

from graviton.backends.objectstore import _credentials
from graviton.backends.objectstore.clients import s3_client
from graviton.backends.objectstore.config import Credentials, S3Config
from graviton.backends.objectstore.errors import translate
from graviton.concurrency.executors import in_own_thread
from graviton.core.secret import Secret
from graviton.errors import (
    ConfigError,
    GravitonError,
    InvalidInput,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    RangeNotSatisfiable,
    Retry,
    StorageFull,
    Unavailable,
    Unsupported,
)
from tests.s3_server import ACCESS_KEY, rclone_server
from tests.unit.objectstore.canned import ETAG, SECRET, TOKEN, answer, driver_of, serving, settings

pytestmark = pytest.mark.s3

ANSWERS = [
    (404, "NoSuchKey", NotFound, False, "there is no thing"),
    (404, "NoSuchBucket", ConfigError, False, "graviton store init"),
    (404, "", Unavailable, True, "not in the way of S3"),
    (301, "PermanentRedirect", ConfigError, False, "GRAVITON_S3_REGION"),
    (400, "AuthorizationHeaderMalformed", ConfigError, False, "GRAVITON_S3_REGION"),
    (400, "IllegalLocationConstraintException", ConfigError, False, "GRAVITON_S3_REGION"),
    (403, "RequestTimeTooSkewed", PermissionDenied, False, "clock"),
    (403, "InvalidAccessKeyId", PermissionDenied, False, "AWS_PROFILE"),
    (403, "SignatureDoesNotMatch", PermissionDenied, False, "AWS_PROFILE"),
    (400, "ExpiredToken", PermissionDenied, False, "has expired"),
    (400, "InvalidToken", PermissionDenied, False, "AWS_PROFILE"),
    (403, "AccessDenied", PermissionDenied, False, "docs/guides/s3.md"),
    (403, "InvalidObjectState", Unavailable, False, "archive"),
    (400, "KMS.DisabledException", PermissionDenied, False, "KMS.DisabledException"),
    (400, "KMS.ThrottlingException", Unavailable, True, "KMS.ThrottlingException"),
    (500, "KMS.KMSInternalException", Unavailable, True, "KMS.KMSInternalException"),
    (503, "KMS.DependencyTimeoutException", Unavailable, True, "KMS.DependencyTimeoutException"),
    (400, "ThrottlingException", Unavailable, True, "ThrottlingException"),
    (401, "", PermissionDenied, False, "401"),
    (412, "PreconditionFailed", PreconditionFailed, False, "PreconditionFailed"),
    (416, "InvalidRange", RangeNotSatisfiable, False, "InvalidRange"),
    (409, "OperationAborted", Unavailable, True, "OperationAborted"),
    (409, "ConditionalRequestConflict", Unavailable, True, "ConditionalRequestConflict"),
    (429, "", Unavailable, True, "429"),
    (503, "SlowDown", Unavailable, True, "SlowDown: a sentence"),
    (500, "InternalError", Unavailable, True, "InternalError"),
    (502, "", Unavailable, True, "502"),
    (504, "", Unavailable, True, "504"),
    (408, "", Unavailable, True, "408"),
    (400, "RequestTimeout", Unavailable, True, "RequestTimeout"),
    (400, "BadDigest", Unavailable, True, "BadDigest"),
    (400, "XAmzContentSHA256Mismatch", Unavailable, True, "Mismatch"),
    (507, "", StorageFull, False, "Make room"),
    (400, "QuotaExceeded", StorageFull, False, "Make room"),
    (507, "XMinioStorageFull", StorageFull, False, "Make room"),
    (400, "EntityTooLarge", LimitExceeded, False, "too large"),
    (413, "", LimitExceeded, False, "too large"),
    (501, "NotImplemented", Unsupported, False, "NotImplemented"),
    (405, "MethodNotAllowed", Unsupported, False, "MethodNotAllowed"),
    (400, "InvalidArgument", Unavailable, False, "InvalidArgument: a sentence"),
    (400, "KeyTooLongError", InvalidInput, False, "is no name that this server takes"),
    (418, "", Unavailable, False, "418"),
]


def check(error: GravitonError, kind: type[GravitonError], passes: bool, says: str) -> None:
    assert type(error) is kind, f"{error!r}: {error.__cause__}"
    assert error.retry in ((Retry.TEMPORARY, Retry.EXHAUSTED) if passes else (Retry.PERMANENT,))
    assert says in f"{error.message} {error.hint}"
    assert error.subject == "thing"
    assert "\n" not in error.message
    assert len(error.message) < 500
    told = "".join(traceback.format_exception(error)) + repr(error.__cause__)
    assert SECRET not in told
    assert TOKEN not in told


@pytest.mark.parametrize(("status", "code", "kind", "passes", "says"), ANSWERS)
async def test_answer_to_the_driver_of_blocks(
    status: int, code: str, kind: type[GravitonError], passes: bool, says: str
) -> None:
    async with serving(answer(status, code)) as endpoint:
        with pytest.raises(GravitonError) as told:
            await driver_of(settings(endpoint)).get("a/key", "thing", 10)
    check(told.value, kind, passes, says)
    assert told.value.retry is not Retry.TEMPORARY, "it never leaves"


async def ask(config: S3Config, method: str = "get_object", client: Any = None, **arguments: Any) -> GravitonError:
    """What the other driver's failure becomes."""

    def call() -> None:
        getattr(client or s3_client(config, 1), method)(Bucket=config.bucket, **arguments)

    with pytest.raises(Exception) as told:  # noqa: PT011 - it is what is looked at
        await in_own_thread(call)
    made = translate(told.value, "get", "thing", config.bucket)
    made.__cause__ = told.value
    return made


async def test_answers_to_the_driver_of_objects() -> None:
    """All at once: making a client takes longer than everything else here."""
    async with serving(*(answer(status, code) for status, code, *_ in ANSWERS)) as endpoint:
        client = s3_client(settings(endpoint), 1)
        for status, code, kind, passes, says in ANSWERS:
            made = await ask(settings(endpoint), client=client, Key="a/key")
            assert type(made) is kind, (status, code, made)
            check(made, kind, passes, says)
        client.close()


async def test_answer_to_a_head_has_no_code() -> None:
    """So 404 is absence there, and only there."""
    async with serving(answer(404, x_amz_request_id="7"), answer(200)) as endpoint:
        assert not await driver_of(settings(endpoint)).exists("a/key", "thing")
    async with serving(answer(404)) as endpoint:
        check(await ask(settings(endpoint), "head_object", Key="a/key"), NotFound, False, "there is no thing")
    for status, kind in ((403, PermissionDenied), (500, Unavailable), (503, Unavailable), (400, Unavailable)):
        async with serving(answer(status)) as endpoint:
            with pytest.raises(kind) as told:
                await driver_of(settings(endpoint)).exists("a/key", "thing")
            assert ("does not say why" in told.value.hint) is (status == 403)
            assert type(await ask(settings(endpoint), "head_object", Key="a/key")) is kind


async def test_answer_to_a_head_of_another_region_names_it() -> None:
    """400, as to much else that is malformed; but with the region."""
    async with serving(answer(400, x_amz_bucket_region="eu-central-1")) as endpoint:
        with pytest.raises(ConfigError, match="eu-central-1") as told:
            await driver_of(settings(endpoint)).exists("a/key", "thing")
        assert "GRAVITON_S3_REGION" in told.value.hint


@pytest.mark.parametrize("code", ["InternalError", "SlowDown", "ServiceUnavailable"])
async def test_failure_in_the_body_of_a_good_answer(code: str) -> None:
    """To copy and complete: they answer 200 at once. The driver of blocks reads it for two codes."""
    async with serving(answer(200, code)) as endpoint:
        if code != "ServiceUnavailable":
            with pytest.raises(Unavailable) as told:
                await driver_of(settings(endpoint)).copy_to_new("a/key", "b/key", "thing")
            check(told.value, Unavailable, True, code)
        made = await ask(settings(endpoint), "copy_object", Key="b/key", CopySource="a-bucket/a/key")
        check(made, Unavailable, True, code)


NOTHING = [b"", b"\x15\x03\x01\x00\x02 no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"]


@pytest.mark.parametrize("reply", NOTHING, ids=["closed", "no HTTP", "cut short"])
async def test_no_answer(reply: bytes) -> None:
    async with serving(reply) as endpoint:
        with pytest.raises(Unavailable) as told:
            await driver_of(settings(endpoint)).get("a/key", "thing", 10)
        check(told.value, Unavailable, True, "whether it runs")
        if reply != NOTHING[2]:  # its body is read elsewhere
            check(await ask(settings(endpoint), Key="a/key"), Unavailable, True, "whether it runs")


async def test_server_that_is_not_there() -> None:
    async with serving(b"") as endpoint:
        pass
    with pytest.raises(Unavailable) as told:
        await driver_of(settings(endpoint)).get("a/key", "thing", 10)
    check(told.value, Unavailable, True, "thing")
    check(await ask(settings(endpoint), Key="a/key"), Unavailable, True, "thing")


async def test_server_that_says_nothing() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        config = settings(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", request_seconds=0.1)
        with pytest.raises(Unavailable) as told:
            await driver_of(config).get("a/key", "thing", 10)
        check(told.value, Unavailable, True, "thing")
        check(await ask(config, Key="a/key"), Unavailable, True, "thing")


async def test_server_that_speaks_no_tls() -> None:
    """No new try helps."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer(400))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        config = settings(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(Unavailable) as told:
            await driver_of(config).get("a/key", "thing", 10)
        check(told.value, Unavailable, False, "does not speak TLS")
        assert "http://" in told.value.hint
        check(await ask(config, Key="a/key"), Unavailable, False, "does not speak TLS")


@pytest.mark.parametrize(
    ("error", "kind", "passes"),
    [
        (botocore.NoCredentialsError(), PermissionDenied, False),
        (botocore.PartialCredentialsError(provider="env", cred_var="x"), PermissionDenied, False),
        (botocore.ProfileNotFound(profile="x"), PermissionDenied, False),
        (botocore.CredentialRetrievalError(provider="role", error_msg="x"), Unavailable, True),
        (botocore.ReadTimeoutError(endpoint_url="http://h"), Unavailable, True),
        (botocore.ConnectTimeoutError(endpoint_url="http://h"), Unavailable, True),
        (botocore.EndpointConnectionError(endpoint_url="http://h"), Unavailable, True),
        (botocore.ConnectionClosedError(endpoint_url="http://h"), Unavailable, True),
        (botocore.ProxyConnectionError(proxy_url="http://h"), Unavailable, True),
        (botocore.SSLError(endpoint_url="http://wrong_version_number", error="EOF occurred"), Unavailable, True),
        (botocore.SSLError(endpoint_url="http://h", error="[SSL: BAD_RECORD_MAC]"), Unavailable, True),
        (botocore.SSLError(endpoint_url="http://h", error="[SSL: CERTIFICATE_VERIFY_FAILED]"), Unavailable, False),
        (botocore.SSLError(endpoint_url="http://h", error="[SSL: WRONG_VERSION_NUMBER]"), Unavailable, False),
        (botocore.IncompleteReadError(actual_bytes=1, expected_bytes=2), Unavailable, True),
        (botocore.ResponseStreamingError(error="x"), Unavailable, True),
        (botocore.FlexibleChecksumError(error_msg="x"), Unavailable, True),
        (ResponseParserError("no XML"), Unavailable, True),
        (botocore.ParamValidationError(report="x"), Unavailable, False),
        (botocore.ClientError({}, "GetObject"), Unavailable, True),
        (ConnectionResetError("reset"), Unavailable, True),
        (ValueError("a bug of ours"), Unavailable, False),
        (FileNotFoundError("x not found: No data in memory\n\nDebug source:\nNotFound"), NotFound, False),
        (FileNotFoundError(2, "No such file or directory", "/a/token"), PermissionDenied, False),
        (PermissionError(13, "Permission denied", "/a/token"), PermissionDenied, False),
        (TimeoutError(), Unavailable, True),
        (ValueError(f"Invalid header value b'{TOKEN}'"), PermissionDenied, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_values_of_the_other_driver(error: Exception, kind: type[GravitonError], passes: bool) -> None:
    made = translate(error, "get", "thing", "a-bucket")
    check(made, kind, passes, "thing")


@pytest.mark.parametrize("bucket", ["my-tls-blocks", "invalidcertificate-x"])
async def test_word_in_an_address_says_nothing_of_a_certificate(bucket: str) -> None:
    async with serving(b"") as endpoint:
        driver = driver_of(replace(settings(endpoint), bucket=bucket))
        with pytest.raises(Unavailable) as told:
            await driver.get("certificates/InvalidCertificate(/InvalidContentType", "thing", 10)
        check(told.value, Unavailable, True, "whether it runs")


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


def _token_is_gone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "no-such-token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x")


def _program_is_gone(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "config").write_text("[default]\ncredential_process = /no/such/helper\n")


@pytest.mark.parametrize("way", [_token_is_gone, _program_is_gone])
@pytest.mark.usefixtures("no_keys")
async def test_missing_file_of_a_source_of_keys_is_no_absence(
    way: Callable[[pytest.MonkeyPatch, Path], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Python says FileNotFoundError of it, as the driver of blocks does of an object."""
    way(monkeypatch, tmp_path)
    async with serving(answer(204)) as endpoint:
        driver = driver_of(settings(endpoint, credentials=None))
        for ask in (
            driver.exists("a/key", "thing"),
            driver.get("a/key", "thing", 3),
            driver.get_small("a/key", "thing", 3),
            driver.put("a/key", b"x", "thing"),
            driver.delete(["a/key"], "thing"),
            driver.copy_to_new("a/key", "b/key", "thing"),
            anext(driver.list("a", "thing")),
        ):
            with pytest.raises(PermissionDenied) as told:
                await ask
            check(told.value, PermissionDenied, False, "there are no keys")
        await driver.aclose()


@pytest.mark.parametrize(("code", "passes"), [(503, True), (403, False)])
@pytest.mark.usefixtures("no_keys")
async def test_service_that_gives_the_keys_of_a_role_may_come_back(
    code: int, passes: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("who-we-are")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x")
    kind = Unavailable if passes else PermissionDenied
    async with serving(answer(code, "" if passes else "AccessDenied")) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", endpoint)
        driver = driver_of(settings(endpoint, credentials=None))  # its region is that of the service too
        for ask in (driver.get("a/key", "thing", 3), driver.exists("a/key", "thing")):
            with pytest.raises(kind) as told:
                await ask
            check(told.value, kind, passes, "")
        await driver.aclose()


@pytest.mark.usefixtures("no_keys")
async def test_log_of_everything_shows_no_keys_of_a_role(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor of a process that only puts and gets."""
    (tmp_path / "token").write_text("who-we-are")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/x")
    for name in _credentials._TALKATIVE:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
        logging.getLogger(name).manager._clear_cache()  # type: ignore[attr-defined]
    name = "AssumeRoleWithWebIdentity"
    keys = f"<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>"
    keys += f"<SessionToken>{TOKEN}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
    body = f"<{name}Response><{name}Result><Credentials>{keys}</Credentials></{name}Result></{name}Response>"
    with caplog.at_level(logging.DEBUG):
        async with serving(answer(200, body=body), answer(403, "AccessDenied")) as endpoint:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", endpoint)
            with pytest.raises(PermissionDenied, match="AccessDenied"):
                await driver_of(settings(endpoint, credentials=None)).put("a/key", b"x", "thing")
    assert "botocore" in caplog.text
    for secret in (SECRET, TOKEN, "who-we-are"):
        assert secret not in caplog.text


@pytest.mark.usefixtures("no_keys")
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize("wrong", [f"{TOKEN}\n", f"{TOKEN}\x01{SECRET}", f"{TOKEN}\r\nX-Y: z"])
async def test_key_with_a_line_end_is_refused_and_not_repeated(
    name: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mounted file may give it: in a header it would be repeated by an error. Both drivers say the same."""
    keys = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN, name: wrong}
    for each, key in keys.items():
        monkeypatch.setenv(each, key)
    async with serving(answer(204)) as endpoint:
        driver = driver_of(settings(endpoint, credentials=None))
        for ask in (driver.get("a/key", "thing", 3), driver.put("a/key", b"x", "thing"), driver.delete(["a"], "thing")):
            with pytest.raises(PermissionDenied) as told:
                await ask
            check(told.value, PermissionDenied, False, f"is not allowed: {name} is empty or has")
        await driver.aclose()


@pytest.mark.usefixtures("no_keys")
async def test_file_with_a_key_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"[default]\naws_access_key_id = a\naws_secret_access_key = {SECRET} {TOKEN}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    async with serving(answer(204)) as endpoint:
        driver = driver_of(settings(endpoint, credentials=None))
        for ask in (driver.get("a/key", "thing", 3), driver.delete(["a/key"], "thing")):
            with pytest.raises(PermissionDenied) as told:
                await ask
            check(told.value, PermissionDenied, False, "the secret key (shared-credentials-file) is empty or has")
        await driver.aclose()


@pytest.mark.usefixtures("no_keys")
async def test_session_token_that_is_set_and_empty_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "")
    async with serving(answer(204, ETag=ETAG)) as endpoint:
        driver = driver_of(settings(endpoint, credentials=None))
        await driver.put("a/key", b"x", "thing")
        await driver.delete(["a/key"], "thing")
        await driver.aclose()


@pytest.mark.parametrize("wrong", [Credentials("nobody", Secret(SECRET)), Credentials(ACCESS_KEY, Secret(SECRET))])
async def test_real_server_refuses_wrong_keys(wrong: Credentials) -> None:
    server = rclone_server()
    config = server.config(server.new_bucket(), credentials=wrong, retry_seconds=10)
    for call in (driver_of(config).put("a/key", b"x", "thing"), driver_of(config).get("a/key", "thing", 1)):
        with pytest.raises(PermissionDenied) as told:
            await call
        check(told.value, PermissionDenied, False, "Check the keys")
    check(await ask(config, Key="a/key"), PermissionDenied, False, "Check the keys")


@pytest.mark.usefixtures("no_keys")
async def test_no_keys_anywhere() -> None:
    async with serving(answer(200)) as endpoint:
        config = settings(endpoint, credentials=None)
        with pytest.raises(PermissionDenied) as told:
            await driver_of(config).get("a/key", "thing", 1)
        check(told.value, PermissionDenied, False, "there are no keys")
        assert "Check the keys" in told.value.hint
        check(await ask(config, Key="a/key"), PermissionDenied, False, "there are no keys")


async def test_log_of_everything_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Not even at DEBUG, where botocore writes down whole requests, the session token in their headers."""
    with caplog.at_level(logging.DEBUG):
        async with serving(answer(403, "AccessDenied")) as endpoint:
            await ask(settings(endpoint), Key="a/key")
            with pytest.raises(PermissionDenied):
                await driver_of(settings(endpoint)).put("a/key", b"x", "thing")
    assert "botocore" in caplog.text
    assert TOKEN not in caplog.text
    assert SECRET not in caplog.text


def test_own_error_stays_what_it_is() -> None:
    ours = StorageFull("full")
    assert translate(ours, "get", "thing", "a-bucket") is ours
