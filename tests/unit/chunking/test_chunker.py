from __future__ import annotations

import pytest

from graviton.core.chunking import ChunkerSpec, Kernel
from tests.golden.chunking.inputs import random_bytes

pytestmark = pytest.mark.python_kernel


def cuts(kernel: Kernel, spec: str, *feeds: bytes) -> list[int]:
    chunker = kernel.chunker(ChunkerSpec.parse(spec))
    return [length for feed in feeds for length in chunker.feed(feed)] + chunker.finish()


def test_an_empty_input_has_no_cuts(each_kernel: Kernel) -> None:
    for spec in ("w16:128:1KiB:2KiB", "fastcdc:64:256:1KiB", "delimiter:0a:64:100", "fixed:64"):
        assert cuts(each_kernel, spec) == []
        assert cuts(each_kernel, spec, b"", b"") == []


def test_a_delimiter_ends_the_block_it_belongs_to(each_kernel: Kernel) -> None:
    line = b"x" * 99 + b"\n"
    assert cuts(each_kernel, "delimiter:0a:64:1000", line, line, b"rest") == [100, 100, 4]


def test_a_delimiter_before_min_does_not_end_a_block(each_kernel: Kernel) -> None:
    assert cuts(each_kernel, "delimiter:0a:64:1000", b"\n" * 63 + b"x" * 10 + b"\n") == [74]
    assert cuts(each_kernel, "delimiter:0a:64:1000", b"\n" * 130) == [64, 64, 2]


def test_a_delimiter_may_straddle_feeds_and_overlap(each_kernel: Kernel) -> None:
    assert cuts(each_kernel, "delimiter:0d0a:64:1000", b"x" * 70 + b"\r", b"\n", b"y" * 5) == [72, 5]
    # `aa` ends at every position from 2: also at 64, where an occurrence that overlaps the one before it ends.
    assert cuts(each_kernel, "delimiter:6161:64:1000", b"a" * 130) == [64, 64, 2]


def test_a_delimiter_cut_in_two_by_a_forced_cut_is_none(each_kernel: Kernel) -> None:
    data = b"x" * 99 + b"\r\n" + b"y" * 150
    assert cuts(each_kernel, "delimiter:0d0a:64:100", data) == [100, 100, 51]


def test_a_chunker_is_finished_once(each_kernel: Kernel) -> None:
    chunker = each_kernel.chunker(ChunkerSpec.parse("fixed:100"))
    chunker.feed(b"x" * 150)
    assert chunker.finish() == [50]
    assert chunker.finish() == []
    with pytest.raises(ValueError, match="finished"):
        chunker.feed(b"")


def test_zeros_and_short_runs_give_maximal_blocks(each_kernel: Kernel) -> None:
    for unit in (b"\0", b"ab", b"abcd", b"abcdefgh"):
        assert cuts(each_kernel, "w16:2KiB:8KiB:32KiB", unit * (100_000 // len(unit))) == [32768] * 3 + [1696]


def test_cuts_depend_on_the_chunks_own_bytes_only(each_kernel: Kernel) -> None:
    data = random_bytes(11, 60_000)
    spec = "w16:512:4KiB:16KiB"
    whole = cuts(each_kernel, spec, data)
    assert len(whole) > 5
    assert cuts(each_kernel, spec, data[whole[0] :]) == whole[1:]
