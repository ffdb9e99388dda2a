"""Bytes at our edges: whatever shape and format memory has, and whatever the garbage collector does with it."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from array import array

import pytest

from graviton.core.buffers import as_bytes, memory_of
from graviton.errors import InvalidInput

NUMBERS = array("I", range(24))
VIEWS = {
    "bytes": memoryview(b"abc"),
    "numbers": memoryview(NUMBERS),
    "grid": memoryview(NUMBERS).cast("B").cast("B", (4, 24)),
    "structures": memoryview((ctypes.c_int * 6)(*range(6))),
    "a scalar": memoryview(ctypes.c_int(7)),
    "empty grid": memoryview((ctypes.c_char * 0 * 3)()),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_any_contiguous_view_is_its_bytes(view: memoryview) -> None:
    octets = as_bytes(view)
    assert octets.tobytes() == view.tobytes()
    assert (octets.format, octets.ndim, octets.itemsize) == ("B", 1, 1)


def test_bytes_and_numbers_are_used_in_place() -> None:
    data = bytearray(b"abc")
    octets, numbers = as_bytes(data), as_bytes(memoryview(changing := array("I", [0])))
    data[0], changing[0] = ord("x"), 1
    assert octets.tobytes() == b"xbc"
    assert numbers.tobytes() == changing.tobytes()


def test_what_is_no_memory_is_told_apart() -> None:
    assert memory_of(NUMBERS) is not None
    for source in ("text", 7, iter([b"pieces"]), [b"pieces"], None):
        assert memory_of(source) is None
    released = memoryview(b"x")
    released.release()
    for view in (released, memoryview(b"abcdef")[::2]):
        with pytest.raises(InvalidInput):
            as_bytes(view)


_CYCLES = """
import gc
from graviton.core.buffers import as_bytes

for number in range(100):
    view = memoryview(bytearray(30))
    cycle = [memoryview(view), as_bytes(memoryview(view))]
    cycle.append(cycle)
    other = [as_bytes(view), view]
    other.append(other)
    del view, cycle, other
gc.collect()
"""


def test_views_in_garbage_cycles_are_harmless() -> None:
    """A view of a view, as PickleBuffer makes it, crashes CPython 3.11 here."""
    done = subprocess.run([sys.executable, "-c", _CYCLES], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
