"""Laws of chunkers over arbitrary specs, inputs and ways of feeding."""

from __future__ import annotations

import hashlib
from itertools import accumulate, pairwise

import blake3
import pyfastcdc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.core.chunking import ChunkerSpec, Kernel, PythonKernel, cutter_for
from graviton.core.hashing import HashAlgo
from tests.golden.chunking.inputs import random_bytes
from tests.unit.chunking import kernels

REFERENCE = PythonKernel()
MOST = 6000
"""Input size: several blocks of the smallest specs, a few milliseconds of pure Python."""


@st.composite
def specs(draw: st.DrawFn) -> ChunkerSpec:
    algorithm = draw(st.sampled_from(["w16", "fastcdc", "delimiter", "fixed"]))
    if algorithm == "fixed":
        return ChunkerSpec.parse(f"fixed:{draw(st.integers(64, 2000))}")
    if algorithm == "delimiter":
        least = draw(st.integers(64, 500))
        delimiter = draw(st.sampled_from([b"\0", b"ab", b"aba", b"\0\0\0", b"a" * 64]))
        return ChunkerSpec.parse(f"delimiter:{delimiter.hex()}:{least}:{draw(st.integers(least, 2000))}")
    if algorithm == "fastcdc":
        avg = draw(st.integers(128, 800)) * 2
        least = draw(st.integers(32, avg // 2)) * 2
        return ChunkerSpec.parse(f"fastcdc:{least}:{avg}:{draw(st.integers(max(512, avg // 2), 2000)) * 2}")
    avg = draw(st.sampled_from([1024, 2048]))
    return ChunkerSpec.parse(f"w16:{draw(st.integers(128, avg))}:{avg}:{draw(st.integers(avg, 4000))}")


@st.composite
def inputs(draw: st.DrawFn) -> bytes:
    """Random bytes, runs and short periods, with some of Hypothesis' own bytes in between."""
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        size = draw(st.integers(0, MOST // 4))
        kind = draw(st.sampled_from(["random", "repeat", "letters"]))
        if kind == "random":
            parts.append(random_bytes(draw(st.integers(0, 2**32)), size))
        elif kind == "repeat":
            unit = draw(st.binary(min_size=1, max_size=9))
            parts.append((unit * size)[:size])
        else:
            letters = draw(st.sampled_from([b"ab", b"\0\1", b"abc\0"]))
            parts.append(bytes(letters[byte % len(letters)] for byte in random_bytes(draw(st.integers(0, 9)), size)))
        parts.append(draw(st.binary(max_size=20)))
    return b"".join(parts)


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    """An input and where it is split into feeds."""
    data = draw(inputs())
    ends = sorted({*draw(st.lists(st.integers(0, len(data)), max_size=12)), 0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def cuts(kernel: Kernel, spec: ChunkerSpec, feeds: list[bytes]) -> list[int]:
    chunker = kernel.chunker(spec)
    return [length for feed in feeds for length in chunker.feed(feed)] + chunker.finish()


@pytest.mark.python_kernel
@given(spec=specs(), feeds=pieces())
def test_cuts_cover_the_input_within_the_bounds(spec: ChunkerSpec, feeds: list[bytes]) -> None:
    data = b"".join(feeds)
    lengths = cuts(REFERENCE, spec, feeds)
    ends = [0, *accumulate(lengths)]
    assert b"".join(data[start:end] for start, end in pairwise(ends)) == data
    assert all(spec.min_bytes <= length <= spec.max_bytes for length in lengths[:-1])
    assert all(1 <= length <= spec.max_bytes for length in lengths[-1:])


@pytest.mark.python_kernel
@given(spec=specs(), feeds=pieces())
def test_feeding_does_not_matter(spec: ChunkerSpec, feeds: list[bytes]) -> None:
    assert cuts(REFERENCE, spec, feeds) == cuts(REFERENCE, spec, [b"".join(feeds)])


@pytest.mark.python_kernel
@given(spec=specs(), feeds=pieces())
def test_a_cutter_decides_as_early_as_it_can_and_never_otherwise(spec: ChunkerSpec, feeds: list[bytes]) -> None:
    data = memoryview(b"".join(feeds))
    cutter = cutter_for(spec)
    final = cutter.cut(data, 0, True)
    for size in range(0, len(data), 97):
        assert cutter.cut(data[:size], 0, False) in (None, final)
    assert (final is None) == (len(data) == 0)


@given(spec=specs(), feeds=pieces())
def test_native_cuts_equal_the_references_on_every_simd_path(spec: ChunkerSpec, feeds: list[bytes]) -> None:
    native = kernels.native_module()
    expected = cuts(REFERENCE, spec, [b"".join(feeds)])
    for simd in native.simd_paths():
        chunker = native.Chunker(spec.text, simd)
        lengths = [length for feed in feeds for length in chunker.feed(feed)]
        assert lengths + chunker.finish() == expected


@pytest.mark.python_kernel
@pytest.mark.parametrize("name", kernels.NAMES)
@given(spec=specs(), feeds=pieces(), algo=st.sampled_from(HashAlgo), blob_algo=st.sampled_from(HashAlgo))
def test_ingest_digests_are_those_of_the_bytes(
    name: str, spec: ChunkerSpec, feeds: list[bytes], algo: HashAlgo, blob_algo: HashAlgo
) -> None:
    plain = {
        HashAlgo.BLAKE3: lambda data: blake3.blake3(data).digest(),
        HashAlgo.SHA256: lambda data: hashlib.sha256(data).digest(),
    }
    ingest = kernels.named(name).ingest(spec, algo, blob_algo)
    tail, lengths = b"", []
    for index, feed in enumerate(feeds or [b""]):
        segment = tail + feed
        some, digests = ingest.feed(segment, index >= len(feeds) - 1)
        start = 0
        for length, digest in zip(some, digests, strict=True):
            assert digest == plain[algo](segment[start : start + length])
            start += length
        tail = segment[start:]
        lengths += some
    data = b"".join(feeds)
    assert tail == b""
    assert lengths == cuts(REFERENCE, spec, [data])
    assert ingest.finish() == (plain[blob_algo](data), len(data))


@pytest.mark.parametrize("name", kernels.NAMES)
@given(spec=specs().filter(lambda spec: spec.algorithm == "fastcdc-v1"), data=inputs())
def test_fastcdc_equals_an_independent_library(name: str, spec: ChunkerSpec, data: bytes) -> None:
    theirs = pyfastcdc.FastCDC(
        spec.avg_bytes, min_size=spec.min_bytes, max_size=spec.max_bytes, normalized_chunking=2
    ).cut_buf(data)
    assert cuts(kernels.named(name), spec, [data]) == [chunk.length for chunk in theirs]


@given(seed=st.integers(0, 2**64 - 1), avg_bits=st.integers(8, 16))
def test_fastcdc_equals_it_on_megabytes(seed: int, avg_bits: int) -> None:
    avg = 1 << avg_bits
    spec = ChunkerSpec("fastcdc-v1", max(64, avg // 4), avg, max(1024, avg * 8))
    data = hashlib.shake_128(str(seed).encode()).digest(1_000_003)
    theirs = pyfastcdc.FastCDC(avg, min_size=spec.min_bytes, max_size=spec.max_bytes, normalized_chunking=2)
    assert cuts(kernels.named("native"), spec, [data]) == [chunk.length for chunk in theirs.cut_buf(data)]
