"""Writes vectors.json with the pure-Python references (half a minute): `python make_vectors.py`.

Run it to add vectors, never to change them: a vector that changes means that stored data would be cut differently.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from inputs import build, cuts_digest

from graviton.core.chunking import ChunkerSpec, select_kernel

FILE = Path(__file__).with_name("vectors.json")
KIB = 1024
MIB = 1024 * KIB
FIRST = 8
"""How many lengths are written out; all of them enter the digest."""

W16_SMALL = "w16-v1:2048:8192:65536"
W16_LEAST = "w16-v1:128:1024:4096"
FASTCDC_SMALL = "fastcdc-v1:2048:8192:65536"
FASTCDC_LEAST = "fastcdc-v1:64:256:1024"
LINES = "delimiter-v1:0a:64:1000"
TWO_BYTES = "delimiter-v1:6161:100:5000"
LONGEST = "delimiter-v1:" + "ab" * 64 + ":64:300"
FIXED = "fixed-v1:1000"


def random(size: int, seed: int = 42) -> dict[str, Any]:
    return {"kind": "splitmix64", "seed": seed, "bytes": size}


def repeat(hex_unit: str, size: int) -> dict[str, Any]:
    return {"kind": "repeat", "hex": hex_unit, "bytes": size}


def letters(hex_letters: str, size: int, seed: int = 7) -> dict[str, Any]:
    return {"kind": "alphabet", "hex": hex_letters, "seed": seed, "bytes": size}


def cases() -> list[tuple[str, dict[str, Any]]]:
    published = ["w16-v1:262144:1048576:4194304", "w16-v1:16384:65536:262144", W16_SMALL]
    found = [(spec, random(16 * MIB)) for spec in published]
    found += [
        ("fastcdc-v1:262144:1048576:4194304", random(16 * MIB)),
        ("fastcdc-v1:16384:65536:262144", random(4 * MIB)),
    ]
    found += [(spec, random(MIB)) for spec in (W16_LEAST, FASTCDC_SMALL, FASTCDC_LEAST, LINES, FIXED)]
    for spec in (W16_SMALL, W16_LEAST, FASTCDC_SMALL, FASTCDC_LEAST, LINES, FIXED, LONGEST):
        parsed = ChunkerSpec.parse(spec)
        least, most = parsed.min_bytes, parsed.max_bytes
        sizes = {0, 1, least - 1, least, least + 1, least + 2, most - 1, most, most + 1, 2 * most + 1}
        found += [(spec, random(size, seed=size)) for size in sorted(sizes)]
        for unit in ("00", "ff", "0a", "0102", "5f10ce", "01308d", "01020304", "d5c3a1f0e2", "0102030405060708", "ab"):
            found.append((spec, repeat(unit, 100_001)))
    found += [(TWO_BYTES, letters(alphabet, 100_000)) for alphabet in ("61", "6162", "616263646566", "6263")]
    found += [
        (LINES, letters("0a2020202020202020", 100_000)),
        (LONGEST, letters("ababababababababababababababababababac", 100_000)),
    ]
    found += [(W16_LEAST, letters(alphabet, 200_000)) for alphabet in ("41434754", "0001")]
    found += [(FASTCDC_LEAST, letters(alphabet, 200_000)) for alphabet in ("41434754", "0001")]
    return found


def main() -> None:
    kernel = select_kernel("python")
    vectors = []
    for spec, description in cases():
        chunker = kernel.chunker(ChunkerSpec.parse(spec))
        lengths = chunker.feed(build(description)) + chunker.finish()
        vectors.append(
            {
                "spec": spec,
                "input": description,
                "count": len(lengths),
                "first": lengths[:FIRST],
                "sha256": cuts_digest(lengths),
            }
        )
    lines = ",\n".join("    " + json.dumps(vector) for vector in vectors)
    FILE.write_text('{\n  "vectors": [\n' + lines + "\n  ]\n}\n")


if __name__ == "__main__":
    main()
