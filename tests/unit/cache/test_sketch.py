"""How often keys were asked for: never too low between two halvings, seldom too high, and forgotten in time."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.errors import IntegrityError
from graviton.stores.layers.cache.sketch import MAX_COUNT, SAMPLE, FrequencySketch


def noted(keys: list[bytes], entries: int) -> FrequencySketch:
    sketch = FrequencySketch()
    for key in keys:
        sketch.note(key, entries)
    return sketch


@given(st.lists(st.binary(max_size=2), max_size=500))
def test_a_count_is_never_too_low_up_to_its_end(keys: list[bytes]) -> None:
    sketch = noted(keys, 1_000)
    for key, count in Counter(keys).items():
        assert min(count, MAX_COUNT) <= sketch.count(key) <= MAX_COUNT


def test_a_count_is_seldom_too_high() -> None:
    rng = random.Random(1)
    keys = [rng.randbytes(8) for _ in range(1_000)]
    sketch = noted(keys * 4, 1_000)
    assert sum(sketch.count(key) == 4 for key in keys) >= 990
    assert sum(sketch.count(rng.randbytes(8)) > 0 for _ in range(1_000)) <= 10


def test_everything_is_halved_after_ten_uses_per_entry() -> None:
    sketch = noted([b"a"] * 9, 500)
    for number in range(SAMPLE * 500 - 10):
        sketch.note(b"%d" % number, 500)
    assert sketch.count(b"a") == 9
    sketch.note(b"the last", 500)
    assert sketch.count(b"a") == 4


def test_it_grows_with_the_cache_and_loses_no_count() -> None:
    keys = [b"%d" % number for number in range(60)]
    sketch = noted(keys * 5, 60)
    size = len(sketch.to_bytes())
    sketch.note(b"one more", 10_000)
    assert 32 * 10_000 <= len(sketch.to_bytes()) < 65 * 10_000
    assert size < 4_000
    assert all(sketch.count(key) >= 5 for key in keys)


def test_it_comes_back_from_its_bytes_in_another_process() -> None:
    sketch = noted([b"%d" % (number % 90) for number in range(400)], 300)
    code = (
        "import sys; from graviton.stores.layers.cache.sketch import FrequencySketch as F;"
        "s = F.from_bytes(sys.stdin.buffer.read()); print([s.count(b'%d' % n) for n in range(100)])"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sketch.to_bytes(), capture_output=True, check=True)
    assert done.stdout.decode().strip() == str([sketch.count(b"%d" % number) for number in range(100)])
    again = FrequencySketch.from_bytes(sketch.to_bytes())
    assert again.to_bytes() == sketch.to_bytes()
    assert (sketch.is_changed, again.is_changed) == (True, False)


@pytest.mark.parametrize("what", ["empty", "short", "long", "columns", "counter"])
def test_what_is_no_sketch_is_refused(what: str) -> None:
    data = noted([b"a"], 1).to_bytes()
    wrong = {
        "empty": b"",
        "short": data[:-1],
        "long": data + b"\0",
        "columns": (513).to_bytes(4, "big") + data[4:] + bytes(4),
        "counter": data[:-1] + b"\x10",
    }
    with pytest.raises(IntegrityError):
        FrequencySketch.from_bytes(wrong[what])
