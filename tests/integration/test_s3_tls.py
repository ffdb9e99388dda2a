"""TLS with a certificate of one's own: both drivers trust what AWS_CA_BUNDLE names, and nothing else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.backends.objectstore.bucket import make_bucket
from graviton.backends.objectstore.config import Credentials, S3Config
from graviton.core.secret import Secret
from graviton.errors import Retry, Unavailable
from graviton.testing.conformance.block_values import block
from tests.certificates import certificate
from tests.s3_server import S3Server, rclone_server_on

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[S3Server, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    tls = certificate(folder)
    with rclone_server_on(folder / "data", tls) as server:
        yield server, tls[0]


def _config(served: tuple[S3Server, Path], trusts: bool) -> S3Config:
    server, authorities = served
    return server.config("over-tls", ca_file=authorities if trusts else None, retry_seconds=5)


async def test_authority_of_ones_own_is_trusted_by_both_drivers(served: tuple[S3Server, Path]) -> None:
    config = _config(served, trusts=True)
    store = S3BlockStore(config)
    await make_bucket(config, store.driver.requests)
    await store.put_blocks([block(b"the bytes")])
    assert await store.get(block(b"the bytes").key) == b"the bytes"
    assert [key async for key in store.list()] == [block(b"the bytes").key]
    await store.aclose()


async def test_unknown_authority_is_told_and_not_tried_again(served: tuple[S3Server, Path]) -> None:
    store = S3BlockStore(_config(served, trusts=False))
    for ask in (store.get(block(b"x").key), store.put_blocks([block(b"x")]), anext(aiter(store.list()))):
        with pytest.raises(Unavailable, match="AWS_CA_BUNDLE") as told:
            await ask
        assert told.value.retry is Retry.PERMANENT
    await store.aclose()


async def test_authorities_of_the_system_are_trusted_by_both_drivers(
    served: tuple[S3Server, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE stands for them here."""
    monkeypatch.setenv("SSL_CERT_FILE", str(served[1]))
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    store = S3BlockStore(_config(served, trusts=False))
    await make_bucket(store.config, store.driver.requests)
    await store.put_blocks([block(b"the bytes")])
    assert await store.get(block(b"the bytes").key) == b"the bytes"
    assert await store.exists(block(b"the bytes").key)
    await store.aclose()


async def test_authorities_of_a_profile_are_trusted_by_none(
    served: tuple[S3Server, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One of the drivers reads none."""
    (tmp_path / "config").write_text(f"[default]\nca_bundle = {served[1]}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    store = S3BlockStore(_config(served, trusts=False))
    for ask in (store.get(block(b"x").key), store.exists(block(b"x").key)):
        with pytest.raises(Unavailable, match="AWS_CA_BUNDLE"):
            await ask
    await store.aclose()


ETAG = "0a" * 16
BODY = bytes(4 << 20)
"""More than the buffers of sockets hold."""
ANSWER = (
    f'HTTP/1.1 200 OK\r\nETag: "{ETAG}"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n'
    f"Content-Length: {len(BODY)}\r\nConnection: close\r\n\r\n"
).encode()


def _cut_before(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def _cut_within(writer: asyncio.StreamWriter) -> None:
    writer.write(ANSWER + BODY[:100_000])
    writer.transport.abort()


@pytest.mark.parametrize("cut", [_cut_before, _cut_within])
@pytest.mark.parametrize("bucket", ["a-bucket", "my-tls-certificates"])
async def test_connection_that_breaks_is_tried_again(
    cut: Callable[[asyncio.StreamWriter], None], bucket: str, tmp_path: Path
) -> None:
    """Without a word of farewell, as when a load balancer dies: that says nothing of the certificate."""
    files = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            requests += 1
            if requests % 3:
                cut(writer)
                return
            writer.write(ANSWER + (b"" if head.startswith(b"HEAD") else BODY))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        endpoint = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        config = S3Config(
            bucket, endpoint=endpoint, ca_file=files[0], credentials=Credentials("a", Secret("b")), retry_seconds=10
        )
        driver = S3BlockStore(config).driver
        assert len(await driver.get("a/key", "thing", len(BODY))) == len(BODY)
        assert requests == 3
        assert await driver.exists("a/key", "thing")
        await driver.aclose()


async def test_connection_that_breaks_in_the_handshake_is_tried_again(tmp_path: Path) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(10)
        writer.transport.abort()

    files = certificate(tmp_path)
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        endpoint = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        config = S3Config(
            "a-bucket", endpoint=endpoint, ca_file=files[0], credentials=Credentials("a", Secret("b")), retry_seconds=1
        )
        driver = S3BlockStore(config).driver
        for ask in (driver.get("a/key", "thing", 10), driver.exists("a/key", "thing")):
            connections = 0
            with pytest.raises(Unavailable) as told:
                await ask
            assert "certificate" not in told.value.message
            assert told.value.retry is Retry.EXHAUSTED
            assert connections > 1
        await driver.aclose()
