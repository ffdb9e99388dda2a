from __future__ import annotations

import hashlib

import blake3
import pytest

from graviton.core.chunking import ChunkerSpec, Ingest, Kernel
from graviton.core.hashing import HashAlgo
from tests.golden.chunking.inputs import random_bytes

pytestmark = pytest.mark.python_kernel

SPEC = ChunkerSpec.parse("w16:128:1KiB:4KiB")
FIXED = ChunkerSpec.parse("fixed:100")
DATA = random_bytes(3, 30_000)
DIGEST = {
    HashAlgo.BLAKE3: lambda data: blake3.blake3(data).digest(),
    HashAlgo.SHA256: lambda data: hashlib.sha256(data).digest(),
}


def drive(ingest: Ingest, data: bytes, step: int) -> tuple[list[int], list[bytes]]:
    """Feed `data` in segments that grow by `step`, keeping the undecided tail, as the put path does."""
    lengths: list[int] = []
    digests: list[bytes] = []
    start = end = 0
    while True:
        end = min(end + step, len(data))
        some, of_them = ingest.feed(data[start:end], end == len(data))
        lengths += some
        digests += of_them
        start += sum(some)
        if end == len(data):
            return lengths, digests


@pytest.mark.parametrize("step", [1, 999, 4096, 30_000])
@pytest.mark.parametrize(
    ("block_algo", "blob_algo"),
    [(HashAlgo.BLAKE3, None), (HashAlgo.SHA256, None), (HashAlgo.BLAKE3, HashAlgo.SHA256)],
)
def test_blocks_and_blob_are_hashed(
    each_kernel: Kernel, step: int, block_algo: HashAlgo, blob_algo: HashAlgo | None
) -> None:
    data = DATA if step > 1 else DATA[:5000]
    chunker = each_kernel.chunker(SPEC)
    expected = chunker.feed(data) + chunker.finish()
    ingest = each_kernel.ingest(SPEC, block_algo, blob_algo)
    lengths, digests = drive(ingest, data, step)
    assert lengths == expected
    start = 0
    for length, digest in zip(lengths, digests, strict=True):
        assert digest == DIGEST[block_algo](data[start : start + length])
        start += length
    assert ingest.finish() == (DIGEST[blob_algo or block_algo](data), len(data))


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200])
def test_blobs_of_few_blocks(each_kernel: Kernel, size: int) -> None:
    for step in (size or 1, 33):
        ingest = each_kernel.ingest(FIXED)
        lengths, digests = drive(ingest, DATA[:size], step)
        assert lengths == [100] * (size // 100) + ([size % 100] if size % 100 else [])
        assert ingest.finish() == (blake3.blake3(DATA[:size]).digest(), size)
        if len(digests) == 1:
            assert digests == [ingest.finish()[0]]


def test_an_ingest_without_any_feed_is_the_empty_blob(each_kernel: Kernel) -> None:
    assert each_kernel.ingest(SPEC).finish() == (blake3.blake3(b"").digest(), 0)


def test_a_segment_with_nothing_decided_gives_nothing(each_kernel: Kernel) -> None:
    ingest = each_kernel.ingest(FIXED)
    assert ingest.feed(b"") == ([], [])
    assert ingest.feed(DATA[:99]) == ([], [])
    assert ingest.feed(DATA[:100])[0] == [100]


def test_any_contiguous_buffer_is_accepted(each_kernel: Kernel) -> None:
    for buffer in (bytearray(DATA), memoryview(DATA), memoryview(DATA)[:30_000].cast("H")):
        ingest = each_kernel.ingest(SPEC)
        lengths, _ = ingest.feed(buffer, True)
        assert sum(lengths) == len(DATA)
        assert ingest.finish()[0] == blake3.blake3(DATA).digest()
    with pytest.raises((BufferError, ValueError, TypeError)):
        each_kernel.ingest(SPEC).feed(memoryview(DATA)[::2])


def test_a_feed_after_the_final_one_is_refused(each_kernel: Kernel) -> None:
    ingest = each_kernel.ingest(FIXED)
    ingest.feed(DATA[:150], True)
    with pytest.raises(ValueError, match="final segment"):
        ingest.feed(b"")


def test_a_segment_without_the_undecided_tail_is_refused(each_kernel: Kernel) -> None:
    ingest = each_kernel.ingest(FIXED)
    assert ingest.feed(DATA[:199])[0] == [100]
    with pytest.raises(ValueError, match="98 bytes, but must begin with the undecided 99"):
        ingest.feed(DATA[100:198])
    assert ingest.feed(DATA[100:199], True)[0] == [99]


def test_a_digest_before_the_end_is_refused(each_kernel: Kernel) -> None:
    ingest = each_kernel.ingest(FIXED)
    ingest.feed(DATA[:150])
    with pytest.raises(ValueError, match="50 bytes are undecided"):
        ingest.finish()
