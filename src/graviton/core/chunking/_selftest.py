"""A test of a few milliseconds that a native kernel must pass before it may touch data.

A build that cuts or hashes wrongly would store blocks that never deduplicate, or never verify; this catches a bad
compiler, a wrong instruction set and a module of another version. The vectors are built in, not computed from the
references, which would take a thousand times longer; `tests/unit/chunking/test_selftest.py` holds them against each
other.
"""

from __future__ import annotations

import hashlib
from typing import Any

__all__ = ["CUT_DIGESTS", "INPUT_BYTES", "cut_digest", "probe_input", "self_test"]

INPUT_BYTES = 64 * 1024
"""Enough for several cuts of each spec below, and for every SIMD loop to reach its steady state."""

CUT_DIGESTS = {
    "w16-v1:2048:8192:65536": "68ccf3f95f6988d4",
    "w16-v1:128:1024:8192": "88c2f950789b8f89",
    "fastcdc-v1:1024:4096:16384": "b16632cf19f8c8d2",
    "delimiter-v1:0a:300:500": "e47e9fa492c1e67b",
    "fixed-v1:10007": "32478dac8001fefd",
}
"""Spec to the first 16 hex digits of the SHA-256 of its cut lengths, written in decimal with commas."""

DIGESTS = {
    "blake3": "5cb48c627e782302b2ef7a23922cb2d0e644c5b858afeb915706cadcf56c46e8",
    "sha256": "845af720fc26e73846491cdd54e812f36f0f016cb06491ecd419f4e3c82b9109",
}
"""Digest of the whole input by algorithm."""


def probe_input() -> bytes:
    """The bytes that are cut: an extendable hash, because it is fast and the same everywhere."""
    return hashlib.shake_128(b"graviton chunker self-test").digest(INPUT_BYTES)


def cut_digest(lengths: list[int]) -> str:
    """A short name for a list of cut lengths."""
    return hashlib.sha256(",".join(map(str, lengths)).encode()).hexdigest()[:16]


def self_test(module: Any) -> str:
    """An empty text if the native `module` cuts and hashes as it must, else what is wrong."""
    data = probe_input()
    for spec, expected in CUT_DIGESTS.items():
        for simd in module.simd_paths() if spec.startswith("w16") else (None,):
            chunker = module.Chunker(spec, simd)
            if cut_digest(chunker.feed(data) + chunker.finish()) != expected:
                return f"wrong cuts for {spec} with simd {simd}"
    for algo, expected in DIGESTS.items():
        if module.digest(data, algo).hex() != expected or module.digest_many([data], algo)[0].hex() != expected:
            return f"wrong {algo} digest"
        ingest = module.Ingest("fixed-v1:65536", algo)
        if ingest.feed(data, True) != ([INPUT_BYTES], [bytes.fromhex(expected)]):
            return f"wrong {algo} block"
    return ""
