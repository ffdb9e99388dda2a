"""Today's code cuts as the stored vectors say; `native/kernel/tests/golden.rs` reads the same file."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from graviton.core.chunking import ChunkerSpec, PythonKernel
from tests.golden.chunking.inputs import build, cuts_digest
from tests.unit.chunking import kernels

VECTORS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("vectors.json").read_text())["vectors"]
REFERENCE_BYTES = 300_000
"""The references take a second for 4 MB; larger vectors are the native kernel's."""

SMALL = [vector for vector in VECTORS if vector["input"]["bytes"] <= REFERENCE_BYTES]


@cache
def data_of(description: str) -> bytes:
    return build(json.loads(description))


def data(vector: dict[str, Any]) -> bytes:
    return data_of(json.dumps(vector["input"]))


def check(vector: dict[str, Any], lengths: list[int]) -> None:
    assert (len(lengths), lengths[: len(vector["first"])]) == (vector["count"], vector["first"])
    assert cuts_digest(lengths) == vector["sha256"]
    assert sum(lengths) == vector["input"]["bytes"]


def name(vector: dict[str, Any]) -> str:
    about = vector["input"]
    return f"{vector['spec'][:40]}-{about['kind']}-{about.get('hex', about.get('seed'))}-{about['bytes']}"


def test_there_are_vectors_of_every_chunker_and_size() -> None:
    assert {vector["spec"].split(":")[0] for vector in SMALL} == {"w16-v1", "fastcdc-v1", "delimiter-v1", "fixed-v1"}
    assert len(SMALL) > 140


def test_the_published_w16_vectors_are_among_them() -> None:
    published = {  # the design note of w16-v1, computed with a C prototype
        "w16-v1:262144:1048576:4194304": [1446807, 1703110, 1203794, 1206152, 1446593, 1517620],
        "w16-v1:16384:65536:262144": [88229, 90335, 78095, 59858, 104171, 91168],
        "w16-v1:2048:8192:65536": [3315, 9380, 7763, 6954, 12589, 4479],
    }
    whole = {"kind": "splitmix64", "seed": 42, "bytes": 16 * 1024 * 1024}
    assert {vector["spec"]: vector["first"][:6] for vector in VECTORS if vector["input"] == whole}.items() >= (
        published.items()
    )


@pytest.mark.python_kernel
@pytest.mark.parametrize("vector", SMALL, ids=name)
def test_references_give_the_vectors(vector: dict[str, Any]) -> None:
    chunker = PythonKernel().chunker(ChunkerSpec.parse(vector["spec"]))
    check(vector, chunker.feed(data(vector)) + chunker.finish())


@pytest.mark.parametrize("vector", VECTORS, ids=name)
def test_the_native_kernel_gives_the_vectors_on_every_simd_path(vector: dict[str, Any]) -> None:
    native = kernels.native_module()
    for simd in native.simd_paths():
        chunker = native.Chunker(vector["spec"], simd)
        check(vector, chunker.feed(data(vector)) + chunker.finish())
