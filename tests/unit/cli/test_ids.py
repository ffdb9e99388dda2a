from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from graviton.cli.errors import BadArgument
from graviton.cli.ids import MAX_CANDIDATES, AmbiguousId, check_ids, is_short, list_prefixes, resolve
from graviton.core.attributes import BinaryAttributes
from graviton.core.hashing import Digest, HashAlgo
from graviton.core.keys import BlobKey
from graviton.errors import NotFound
from graviton.ports.blobs import BlobReader, BlobStat, BlobStore, BlobWriteResult


def key(prefix: str, algo: HashAlgo = HashAlgo.BLAKE3, size: int = 5) -> BlobKey:
    return BlobKey(Digest(algo, bytes.fromhex(prefix.ljust(64, "0"))), size)


class Listed(BlobStore):
    """A store that can only list, and counts how much it was asked for."""

    def __init__(self, *keys: BlobKey) -> None:
        self._keys = sorted(keys, key=lambda each: each.text)
        self.given = 0

    async def list(
        self, prefix: str = "", after: BlobKey | None = None, limit: int | None = None, domain: str = ""
    ) -> AsyncIterator[BlobStat]:
        assert limit is not None, "a shortened id must not list a whole store"
        found = [each for each in self._keys if each.text.startswith(prefix)]
        for each in found[:limit]:
            self.given += 1
            yield BlobStat(each, 1, "", 0, BinaryAttributes.EMPTY)

    async def put(self, source: object, plan: object = None) -> BlobWriteResult:
        raise AssertionError

    async def get(self, key: BlobKey, span: object = None, domain: str = "") -> BlobReader:
        raise AssertionError

    async def stat(self, key: BlobKey, domain: str = "") -> BlobStat | None:
        raise AssertionError

    async def delete(self, key: BlobKey, holder: str = "", domain: str = "") -> bool:
        raise AssertionError


A, B = key("12345678aa"), key("12345678bb")
C = key("12345678aa", HashAlgo.SHA256)


async def test_a_full_id_is_taken_as_it_is() -> None:
    assert await resolve(Listed(), A.text) == A


@pytest.mark.parametrize("text", ["12345678b", "blake3:12345678b", B.hex, f"blake3:{B.hex}"])
async def test_a_unique_prefix_names_its_blob(text: str) -> None:
    assert await resolve(Listed(A, B), text) == B


async def test_sha_256_may_be_written_both_ways() -> None:
    for text in ("sha256:12345678", "sha-256:12345678"):
        assert await resolve(Listed(A, B, C), text) == C


async def test_an_ambiguous_prefix_lists_the_candidates() -> None:
    with pytest.raises(AmbiguousId) as caught:
        await resolve(Listed(A, B, C), "12345678")
    assert caught.value.candidates == [A.text, B.text, C.text]
    assert A.text in caught.value.message
    assert caught.value.to_json()["candidates"] == caught.value.candidates


async def test_candidates_are_bounded() -> None:
    store = Listed(*(key(f"12345678{number:04x}") for number in range(500)))
    with pytest.raises(AmbiguousId) as caught:
        await resolve(store, "12345678")
    assert len(caught.value.candidates) == MAX_CANDIDATES
    assert "and more" in caught.value.message
    assert store.given <= MAX_CANDIDATES + 1


async def test_the_same_digest_with_two_sizes_is_ambiguous() -> None:
    with pytest.raises(AmbiguousId):
        await resolve(Listed(A, key("12345678aa", size=6)), A.hex)


async def test_what_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound, match="deadbeef"):
        await resolve(Listed(A), "deadbeef")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1234567",
        "1234567X",
        "ABCDEF0123",
        "0" * 65,
        "md5:12345678",
        "blake3:123",
        "blake3:" + "0" * 64 + ":",
        "blake3:" + "0" * 64 + ":01",
        "a:b:c:d",
        "../../etc",
    ],
)
async def test_what_cannot_be_an_id_is_wrong_usage(text: str) -> None:
    with pytest.raises(BadArgument):
        await resolve(Listed(A), text)
    with pytest.raises(BadArgument):
        check_ids([A.text, text])


def test_only_a_full_text_is_not_short() -> None:
    assert not is_short(A.text)
    assert is_short(A.hex)
    assert is_short(f"blake3:{A.hex}")


def test_prefixes_of_a_listing() -> None:
    assert list_prefixes("") == [""]
    assert list_prefixes("ab") == ["blake3:ab", "sha256:ab"]
    assert list_prefixes("bl") == ["bl"]
    assert list_prefixes("sha256:ab") == ["sha256:ab"]
