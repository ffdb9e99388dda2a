"""The exact keys of objects, a stored format: `tests/golden/object_keys.json`, and as another client sees them.

A change here orphans every store that there is: a new format gets a new name beside the old one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graviton.backends.objectstore.blocks import S3BlockStore
from graviton.backends.objectstore.clients import s3_client
from graviton.backends.objectstore.reclaimer import ObjectBlockReclaimer
from graviton.core.keys import BlockKey
from graviton.ports.blocks import CanonicalBlock
from graviton.ports.reclaimer import TrashEntry
from tests.s3_server import S3Server, default_server, moto_server

pytestmark = pytest.mark.s3

GOLDEN = json.loads(Path(__file__, "../../../golden/object_keys.json").resolve().read_text())
CASES = [(text, prefix) for text, prefixes in GOLDEN.items() for prefix in prefixes]
DATA, MOVED_AT = b"hello", 1_700_000_000_000_000_000


@pytest.mark.parametrize(("text", "prefix"), CASES)
def test_names(text: str, prefix: str) -> None:
    store = S3BlockStore(S3Server("http://127.0.0.1:1").config("a-bucket", prefix=prefix))
    key = BlockKey.parse(text)
    entry = TrashEntry(key, MOVED_AT, "0123456789abcdef")
    assert {"block": store.path(key), "trash": ObjectBlockReclaimer(store).path(entry)} == GOLDEN[text][prefix]


@pytest.mark.parametrize("server", [default_server, moto_server])
@pytest.mark.parametrize(("text", "prefix"), CASES)
async def test_names_as_another_client_sees_them(text: str, prefix: str, server: object) -> None:
    assert callable(server)
    running: S3Server = server()
    config = running.config(running.new_bucket(), prefix=prefix)
    client = s3_client(config, 1)

    def names() -> list[str]:
        return [one["Key"] for one in client.list_objects_v2(Bucket=config.bucket).get("Contents", [])]

    store = S3BlockStore(config)
    key = BlockKey.parse(text)
    await store.put_blocks([CanonicalBlock(key, DATA)])
    assert names() == [GOLDEN[text][prefix]["block"]]
    assert client.get_object(Bucket=config.bucket, Key=names()[0])["Body"].read() == DATA
    entry = await ObjectBlockReclaimer(store).move_to_trash(key, MOVED_AT)
    assert entry is not None
    assert names() == [GOLDEN[text][prefix]["trash"].replace("0123456789abcdef", entry.token)]
    assert [found async for found in ObjectBlockReclaimer(store).trash_entries()] == [entry]
    assert [found async for found in store.list()] == []
    client.close()
    await store.aclose()
