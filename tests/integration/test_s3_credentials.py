"""Where keys come from when none are given by hand, each asked of both drivers: the usual ways of AWS."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.backends.objectstore.bucket import make_bucket
from graviton.backends.objectstore.config import S3Config
from graviton.errors import PermissionDenied, Unavailable
from graviton.testing.conformance.block_values import block
from tests.s3_proxy import S3Proxy
from tests.s3_server import moto_server

pytestmark = pytest.mark.s3

NAME, SECRET, TOKEN = "AKIAFORTHETESTS", "the-secret-that-nobody-sees", "the-token-that-goes-with-it"
EXPIRES = "2099-01-01T00:00:00Z"

Setter = Callable[[pytest.MonkeyPatch, Path], Any]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@contextmanager
def answering(answers: dict[str, bytes]) -> Iterator[str]:
    """A server of AWS that gives out keys; its address. Whatever is asked must be in `answers`, by path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = answers[self.path.partition("?")[0]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_POST = do_GET  # noqa: N815 - names of http.server

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def environment(set_env: Callable[[str, str], None], _: Path) -> Iterator[None]:
    set_env("AWS_ACCESS_KEY_ID", NAME)
    set_env("AWS_SECRET_ACCESS_KEY", SECRET)
    set_env("AWS_SESSION_TOKEN", TOKEN)
    yield


@contextmanager
def profile(set_env: Callable[[str, str], None], folder: Path) -> Iterator[None]:
    file = folder / "credentials"
    file.write_text(
        f"[ours]\naws_access_key_id = {NAME}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
    )
    set_env("AWS_SHARED_CREDENTIALS_FILE", str(file))
    set_env("AWS_PROFILE", "ours")
    yield


@contextmanager
def instance_role(set_env: Callable[[str, str], None], _: Path) -> Iterator[None]:
    keys = {"AccessKeyId": NAME, "SecretAccessKey": SECRET, "Token": TOKEN, "Expiration": EXPIRES, "Code": "Success"}
    roles = "/latest/meta-data/iam/security-credentials/"
    answers = {
        "/latest/api/token": b"of-this-session",
        roles: b"a-role",
        f"{roles}a-role": json.dumps(keys).encode(),
    }
    with answering(answers) as address:
        set_env("AWS_EC2_METADATA_DISABLED", "false")
        set_env("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"{address}/")
        yield


@contextmanager
def container_role(set_env: Callable[[str, str], None], _: Path) -> Iterator[None]:
    keys = {"AccessKeyId": NAME, "SecretAccessKey": SECRET, "Token": TOKEN, "Expiration": EXPIRES}
    with answering({"/role": json.dumps(keys).encode()}) as address:
        set_env("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{address}/role")
        yield


@contextmanager
def web_identity(set_env: Callable[[str, str], None], folder: Path) -> Iterator[None]:
    (folder / "identity").write_text("who-we-are")
    keys = (
        f"<AccessKeyId>{NAME}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>"
        f"<SessionToken>{TOKEN}</SessionToken><Expiration>{EXPIRES}</Expiration>"
    )
    name = "AssumeRoleWithWebIdentity"
    body = f"<{name}Response><{name}Result><Credentials>{keys}</Credentials></{name}Result></{name}Response>"
    with answering({"/": body.encode()}) as address:
        set_env("AWS_ENDPOINT_URL_STS", address)
        set_env("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "identity"))
        set_env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/ours")
        set_env("AWS_REGION", "us-east-1")
        yield


@pytest.mark.parametrize("source", [environment, profile, instance_role, container_role, web_identity])
async def test_keys_of_every_source_sign_the_requests_of_both_drivers(
    source: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with source(monkeypatch.setenv, tmp_path):
        async with S3Proxy(moto_server()) as proxy:
            config = replace(proxy.server.config(f"keys-{source.__name__}".replace("_", "-")), credentials=None)
            store = S3BlockStore(config)
            await make_bucket(config, store.driver.requests)
            await store.put_blocks([block(b"the bytes")])
            assert await store.get(block(b"the bytes").key) == b"the bytes"
            assert [key async for key in store.list()] == [block(b"the bytes").key]
            await store.aclose()
        assert len(proxy.seen) >= 4
        for one in proxy.seen:
            assert f"Credential={NAME}/" in one.headers.of("authorization")
            assert one.headers.of("x-amz-security-token") == TOKEN


async def test_no_keys_anywhere_are_told_at_once() -> None:
    store = S3BlockStore(replace(moto_server().config("nobody"), credentials=None))
    for ask in (store.get(block(b"x").key), store.put_blocks([block(b"x")]), anext(aiter(store.list()))):
        with pytest.raises(PermissionDenied, match="there are no keys") as told:
            await ask
        assert "AWS_PROFILE" in told.value.hint
    await store.aclose()


async def test_service_that_gives_keys_and_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By neither driver, however long botocore's own clients would: a minute a try, and several tries."""
    (tmp_path / "token").write_text("who we are")
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/tests")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{silent.getsockname()[1]}")
        config = S3Config("a-bucket", endpoint="http://127.0.0.1:9", request_seconds=0.5, retry_seconds=0)
        store = S3BlockStore(config)
        for ask in (store.exists(block(b"x").key), store.get(block(b"x").key)):
            async with asyncio.timeout(10):
                with pytest.raises(Unavailable):
                    await ask
        await store.aclose()
