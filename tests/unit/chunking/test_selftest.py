"""The constants built into the self-test are what the references and other libraries say."""

from __future__ import annotations

import hashlib
from typing import Any

import blake3
import pytest

from graviton.core.chunking import ChunkerSpec, PythonKernel
from graviton.core.chunking._selftest import CUT_DIGESTS, DIGESTS, cut_digest, probe_input, self_test


@pytest.mark.python_kernel
@pytest.mark.parametrize("spec", CUT_DIGESTS)
def test_cuts_are_those_of_the_references(spec: str) -> None:
    chunker = PythonKernel().chunker(ChunkerSpec.parse(spec))
    lengths = chunker.feed(probe_input()) + chunker.finish()
    assert len(lengths) > 5
    assert cut_digest(lengths) == CUT_DIGESTS[spec]


@pytest.mark.python_kernel
def test_digests_are_those_of_other_libraries() -> None:
    data = probe_input()
    assert {"blake3": blake3.blake3(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()} == DIGESTS


def test_the_native_kernel_passes(native: Any) -> None:
    assert self_test(native) == ""
