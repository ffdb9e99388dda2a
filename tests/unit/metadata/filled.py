"""A small metadata store with a bit of everything in it."""

from __future__ import annotations

from collections.abc import Sequence

from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey, BlockKey
from graviton.core.manifests import paginate
from graviton.metadata.block_index import KvBlockIndex
from graviton.metadata.manifest_repo import KvBlobManifestRepo
from graviton.metadata.marker import StoreMarker
from graviton.metadata.pairing import MARKER_KEY
from graviton.metadata.rows import OWN_NAMESPACES, STORE
from graviton.ports.kv import KeyValueStore
from graviton.ports.manifests import BlobCommit, BlobRecord

MARKER = StoreMarker("a" * 32, "b" * 32, HashAlgo.BLAKE3, "fixed-v1:1024", 1_700_000_000_000_000_000)


def block(number: int) -> BlockKey:
    return BlockKey(HashAlgo.BLAKE3.digest(b"block %d" % number), 100 + number)


def blob(blocks: Sequence[BlockKey]) -> BlobKey:
    digest = HashAlgo.BLAKE3.digest(b"blob" + b"".join(key.to_bytes() for key in blocks))
    return BlobKey(digest, sum(key.size for key in blocks))


async def put(kv: KeyValueStore, *numbers: int, domain: str = "", holder: str = "") -> BlobRecord:
    blocks = [block(number) for number in numbers]
    (opened,) = await KvBlockIndex(kv).open([blocks], domain)
    one = BlobCommit(
        opened.session, blob(blocks), paginate(blocks), blocks, BinaryAttributes.EMPTY, "fixed-v1:1024", holder
    )
    (result,) = await KvBlobManifestRepo(kv).commit([one])
    return result.record


async def fill(kv: KeyValueStore) -> int:
    """Blobs in two domains, a deleted one, a damaged block, and an open session, whose number is returned."""
    await kv.put(STORE, MARKER_KEY, MARKER.encode())
    await put(kv)
    await put(kv, 1, 2, 3, 1)
    await put(kv, *range(100, 120))
    await put(kv, 1, 2, domain="other", holder="somebody")
    deleted = await put(kv, 4, 5)
    await KvBlobManifestRepo(kv).delete(deleted.key)
    index = KvBlockIndex(kv)
    (record,) = await index.records([block(3)])
    assert record is not None
    await index.mark_damaged(block(3), record.generation)
    (opened,) = await index.open([[block(n) for n in range(50, 70)]])
    return opened.session


async def contents(kv: KeyValueStore) -> dict[tuple[str, bytes], bytes]:
    """All rows but those that a store tells of itself: what backups and copies have."""
    names = [name for name in await kv.namespaces() if name not in OWN_NAMESPACES]
    return {(name, key): value for name in names async for key, value in kv.scan(name)}
