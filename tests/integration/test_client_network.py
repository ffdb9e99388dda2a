"""What a client takes from the machine: proxies and authorities; and what Ctrl-C leaves on a server."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import graviton
import graviton.sync
from graviton.core.attribute_text import encode_attributes
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import ConfigError, Retry, Unavailable
from tests.canned_server import CannedServer, Exchange, answer
from tests.certificates import certificate
from tests.cutting_proxy import Cut, CuttingProxy
from tests.http_spaces import TOKEN, Served
from tests.integration.cli_process import COMMAND, MIB, children_env

NO_ATTRIBUTES = encode_attributes(BinaryAttributes.EMPTY)
TOTALS = answer(200, b'{"blobs": 1, "logical_bytes": 2, "unique_blocks": 3, "stored_bytes": 4}')


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def server() -> AsyncIterator[CannedServer]:
    async with CannedServer() as made:
        made.on("GET", "/", TOTALS)
        yield made


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_proxy_of_the_environment_is_used(
    server: CannedServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    server.on("GET", "http://far.example/", TOTALS)
    if name == "HTTP_PROXY":
        monkeypatch.delenv("REQUEST_METHOD", raising=False)
    monkeypatch.setenv(name, server.url)
    async with graviton.open("http://far.example/", token=TOKEN) as store:
        assert (await store.totals()).blobs == 1
    assert server.asked[0].target == "http://far.example/api/stats"


async def test_proxy_is_left_out_where_it_is_to_be(server: CannedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with graviton.open(server.url) as store:
        assert (await store.totals()).blocks == 3
    monkeypatch.setenv("NO_PROXY", "")
    async with graviton.open(server.url) as store:
        with pytest.raises(Unavailable):
            await store.totals()
    monkeypatch.setenv("HTTP_PROXY", "socks5://user:secret@127.0.0.1:9")
    with pytest.raises(ConfigError) as caught:
        graviton.open(server.url)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


async def test_only_authorities_of_the_system_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE stands for them here."""
    pem, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    async with CannedServer(tls=context) as server:
        server.on("GET", "/", TOTALS)
        url = server.url.replace("http:", "https:")
        async with graviton.open(url, token=TOKEN) as store:
            with pytest.raises(Unavailable, match="not trusted") as caught:
                await store.totals()
            assert caught.value.retry is Retry.PERMANENT
        assert server.asked == []
        async with graviton.open(server.url, token=TOKEN) as store:
            with pytest.raises(Unavailable):
                await store.totals()
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        async with graviton.open(url, token=TOKEN) as store:
            assert (await store.totals()).blobs == 1

    async def speaks_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer(400))

    async with CannedServer(speaks_plainly) as plain, graviton.open(plain.url.replace("http:", "https:")) as store:
        with pytest.raises(Unavailable, match="TLS") as caught:
            await store.totals()
        assert caught.value.retry is Retry.PERMANENT


@pytest.mark.parametrize(("method", "most"), [("GET", 32), ("POST", 16)])
async def test_crowd_of_our_own_waits_here(server: CannedServer, method: str, most: int) -> None:
    """A server has slots for 64, of all clients, and tells those who find no place to come again in ten seconds."""
    going_on, peak = 0, 0
    key = BlobKey(HashAlgo.BLAKE3.digest(b"x"), 1)
    did = "created=1, blocks=1, cut-blocks=1, fresh-blocks=1, fresh-bytes=1, repaired-blocks=0"
    headers = {"X_Graviton_Blob_Id": key.text, "X_Graviton_Put": did, "X_Graviton_Attributes": NO_ATTRIBUTES}

    async def counted(exchange: Exchange) -> None:
        nonlocal going_on, peak
        going_on += 1
        peak = max(peak, going_on)
        await asyncio.sleep(0.02)
        going_on -= 1
        exchange.writer.write(answer(200, b"x", **headers))

    server.on(method, "/", counted)
    async with graviton.open(server.url) as store:
        if method == "POST":
            await asyncio.gather(*(store.put(b"x") for _ in range(100)))
        else:
            readers = await asyncio.gather(*(store.get(key) for _ in range(100)))
            assert await asyncio.gather(*(reader.read() for reader in readers)) == [b"x"] * 100
    assert peak <= most


def test_store_behind_a_url_is_used_without_await(served: Served, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(2 * MIB))
    with graviton.sync.open(served.place().url, token=TOKEN) as store:
        result = store.put(tmp_path / "file")
        with store.get(result.key, graviton.Span(5, 10)) as reader:
            assert reader.read() == (tmp_path / "file").read_bytes()[5:10]
        assert b"".join(bytes(piece) for piece in store.get(result.key)) == (tmp_path / "file").read_bytes()
        assert [one.created for one in store.put_many([b"a", b"b", b"a"])] == [True, True, False]
        assert len(list(store.list())) == store.totals().blobs == 3
        assert len(list(store.manifest(result.key))) == result.blocks
        assert store.delete(result.key) is True
        with pytest.raises(graviton.NotFound):
            store.get(result.key)


@pytest.mark.parametrize(
    ("args", "signum"),
    [
        (["big"], signal.SIGINT),
        (["-"], signal.SIGINT),
        (["big", "--limit-rate", "100MB"], signal.SIGINT),
        (["big"], signal.SIGTERM),
    ],
)
async def test_interrupted_put_leaves_nothing_on_the_server(
    served: Served, tmp_path: Path, args: list[str], signum: int
) -> None:
    (tmp_path / "big").write_bytes(os.urandom(24 * MIB))
    place = served.place()
    environment = children_env() | {"GRAVITON_API_TOKEN": TOKEN}
    async with CuttingProxy(place.url) as proxy:
        proxy.cuts = [Cut(up=8 * MIB, stalls=True)]
        with (tmp_path / "big").open("rb") as file:
            process = await asyncio.create_subprocess_exec(
                *COMMAND, "--url", proxy.url, "put", *args,
                stdin=file, stderr=asyncio.subprocess.PIPE, env=environment, cwd=tmp_path,
            )  # fmt: skip
        while not proxy.happened:
            await asyncio.sleep(0.01)
        process.send_signal(signum)
        _, err = await asyncio.wait_for(process.communicate(), 30)
        assert (process.returncode, b"interrupted" in err) == (128 + signum, True), err
    assert place.uploads == []
    async with graviton.open(place.url, token=TOKEN) as store:
        assert [stat async for stat in store.list()] == []
