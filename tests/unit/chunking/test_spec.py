from __future__ import annotations

import pytest

from graviton.core.chunking import DEFAULT_SPEC, PRESETS, ChunkerSpec
from graviton.errors import InvalidInput

pytestmark = pytest.mark.python_kernel

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("w16-v1:262144:1048576:4194304", "w16-v1:262144:1048576:4194304"),
        ("w16:256KiB:1MiB:4MiB", "w16-v1:262144:1048576:4194304"),
        ("w16:128b:1kib:16MIB", "w16-v1:128:1024:16777216"),
        ("fastcdc:64:256:1KiB", "fastcdc-v1:64:256:1024"),
        ("fastcdc:64:3000:10000", "fastcdc-v1:64:3000:10000"),
        ("fixed:1MiB", "fixed-v1:1048576"),
        ("delimiter:0D0A:64:1KiB", "delimiter-v1:0d0a:64:1024"),
        ("balanced", "w16-v1:262144:1048576:4194304"),
        ("speed", "w16-v1:524288:2097152:8388608"),
        ("dedup", "w16-v1:65536:262144:1048576"),
        ("small", "w16-v1:16384:65536:262144"),
    ],
)
def test_every_spelling_has_one_canonical_text(text: str, canonical: str) -> None:
    spec = ChunkerSpec.parse(text)
    assert spec.text == str(spec) == canonical
    assert ChunkerSpec.parse(spec.text) == spec
    assert hash(ChunkerSpec.parse(spec.text)) == hash(spec)


def test_sizes_are_in_bytes() -> None:
    spec = ChunkerSpec.parse("w16:256KiB:1MiB:4MiB")
    assert (spec.min_bytes, spec.avg_bytes, spec.max_bytes) == (MIB // 4, MIB, 4 * MIB)
    fixed = ChunkerSpec.parse("fixed:1000")
    assert (fixed.min_bytes, fixed.avg_bytes, fixed.max_bytes) == (1000, 1000, 1000)
    lines = ChunkerSpec.parse("delimiter:0a:64:1000")
    assert (lines.min_bytes, lines.avg_bytes, lines.max_bytes, lines.delimiter) == (64, 64, 1000, b"\n")


def test_the_default_is_balanced() -> None:
    assert PRESETS["balanced"] == DEFAULT_SPEC
    assert set(PRESETS) == {"balanced", "speed", "dedup", "small"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown chunker ''"),
        ("rabin:1:2:3", "unknown chunker 'rabin'"),
        ("w16-v2:128:1024:2048", "unknown chunker 'w16-v2'"),
        ("w16", "form w16-v1:min:avg:max"),
        ("w16:1024:2048", "form w16-v1:min:avg:max"),
        ("w16:1024:2048:4096:1", "form w16-v1:min:avg:max"),
        ("w16:1KB:2KiB:4KiB", "min in a chunker spec is a whole number of B, KiB or MiB, not '1KB'"),
        ("w16:1KiB:0x800:4KiB", "avg in a chunker spec"),
        ("w16:1KiB:2KiB:-1", "max in a chunker spec"),
        ("w16:0128:1KiB:4KiB", "min in a chunker spec"),
        ("w16:١٢٨:1KiB:4KiB", "min in a chunker spec"),
        ("w16:127:1KiB:4KiB", "w16-v1: min is at least 128 bytes, not 127"),
        ("w16:128:512:4KiB", "w16-v1: avg is at least 1024 bytes, not 512"),
        ("w16:128:3000:4KiB", "w16-v1: avg is a power of two, not 3000"),
        ("w16:2KiB:1KiB:4KiB", "w16-v1: avg is at least min (2048 bytes), not 1024"),
        ("w16:128:1KiB:1023", "w16-v1: max is at least avg (1024 bytes), not 1023"),
        ("w16:128:1KiB:16777217", "w16-v1: max is at most 16777216 bytes, not 16777217"),
        ("fastcdc:62:256:1KiB", "fastcdc-v1: min is at least 64 bytes, not 62"),
        ("fastcdc:65:256:1KiB", "fastcdc-v1: min is an even number of bytes, not 65"),
        ("fastcdc:64:257:1KiB", "fastcdc-v1: avg is an even number"),
        ("fastcdc:64:256:1025", "fastcdc-v1: max is an even number"),
        ("fastcdc:64:254:1KiB", "fastcdc-v1: avg is 256 to 4194304 bytes, not 254"),
        ("fastcdc:64:8MiB:16MiB", "fastcdc-v1: avg is 256 to 4194304 bytes"),
        ("fastcdc:64:256:512", "fastcdc-v1: max is at least 1024 bytes, not 512"),
        ("fastcdc:2MiB:4MiB:8MiB", "fastcdc-v1: min is at most 1048576 bytes"),
        ("fixed:63", "fixed-v1: size is at least 64 bytes, not 63"),
        ("fixed:17MiB", "fixed-v1: size is at most 16777216 bytes"),
        ("delimiter::64:128", "the delimiter has 1 to 64 bytes, not 0"),
        ("delimiter:0:64:128", "written in hex, not '0'"),
        ("delimiter:zz:64:128", "written in hex, not 'zz'"),
        ("delimiter:" + "0a" * 65 + ":64:128", "the delimiter has 1 to 64 bytes, not 65"),
        ("delimiter:0a:128:64", "max is at least min (128 bytes), not 64"),
        ("Balanced", "unknown chunker 'Balanced'"),
    ],
)
def test_a_wrong_spec_names_the_part_and_the_bound(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ChunkerSpec.parse(text)
    assert message in caught.value.message
    assert "balanced" in caught.value.hint


def test_values_are_checked_like_texts() -> None:
    with pytest.raises(InvalidInput, match="avg is min"):
        ChunkerSpec("delimiter-v1", 64, 100, 128, b"\n")
    with pytest.raises(InvalidInput, match="takes no delimiter"):
        ChunkerSpec("fixed-v1", 64, 64, 64, b"\n")
    with pytest.raises(InvalidInput, match="all the size"):
        ChunkerSpec("fixed-v1", 64, 64, 65)
    with pytest.raises(InvalidInput, match="unknown chunker"):
        ChunkerSpec("w16", 128, 1024, 2048)
