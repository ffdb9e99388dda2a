"""What only the native module has: in-place buffers, freedom from the GIL, refusal of concurrent use."""

from __future__ import annotations

import ast
import hashlib
import inspect
import mmap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.golden.chunking.inputs import random_bytes

SPEC = "w16-v1:262144:1048576:4194304"
LARGE = 256 * 1024 * 1024


@pytest.fixture(scope="module")
def large() -> mmap.mmap:
    """Zeros that take a quarter of a second to hash, and no time to make."""
    return mmap.mmap(-1, LARGE)


def test_every_kind_of_buffer_is_used_in_place(native: Any) -> None:
    data = random_bytes(1, 100_000)
    mapped = mmap.mmap(-1, len(data))
    mapped[:] = data
    expected = hashlib.sha256(data).digest()
    for buffer in (data, bytearray(data), memoryview(data), mapped, memoryview(data).cast("I")):
        assert native.digest(buffer, "sha256") == expected
    for wrong in (memoryview(data)[::2], "text", None):
        with pytest.raises((BufferError, TypeError)):
            native.digest(wrong, "sha256")


def test_hasher_continues_after_a_digest(native: Any) -> None:
    for algo in ("blake3", "sha256"):
        hasher = native.Hasher(algo)
        hasher.update(b"ab")
        assert hasher.digest() == native.digest(b"ab", algo)
        hasher.update(memoryview(b"c"))
        assert hasher.digest() == native.digest(b"abc", algo)
    with pytest.raises(ValueError, match="md5"):
        native.Hasher("md5")


def test_a_simd_path_that_does_not_exist_is_refused(native: Any) -> None:
    assert native.simd_path() == native.simd_paths()[0]
    assert native.simd_paths()[-1] == "portable"
    with pytest.raises(ValueError, match="sse9"):
        native.Chunker(SPEC, "sse9")


def in_background(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["ingest", "hasher"])
def test_use_by_two_threads_at_once_raises(native: Any, large: mmap.mmap, kind: str) -> None:
    if kind == "ingest":
        ingest = native.Ingest(SPEC, "sha256")
        work, intrude = (lambda: ingest.feed(large, True)), (lambda: ingest.feed(b""))
    else:
        hasher = native.Hasher("sha256")
        work, intrude = (lambda: hasher.update(large)), (lambda: hasher.update(b""))
    started = threading.Event()
    thread = in_background(lambda: (started.set(), work()))
    started.wait()
    refused = 0
    while thread.is_alive():
        try:
            intrude()
        except RuntimeError:
            refused += 1
        except ValueError:  # the background feed is over
            break
    thread.join()
    assert refused > 0


def test_the_gil_is_released(native: Any, large: mmap.mmap) -> None:
    over = threading.Event()
    thread = in_background(lambda: (native.digest(large, "sha256"), over.set()))
    ticks = 0
    while not over.is_set():
        time.sleep(0.001)
        ticks += 1
    thread.join()
    assert ticks > 10  # with the GIL held this thread would get one or two turns


def test_tiny_feeds_are_not_quadratic(native: Any) -> None:
    data = bytes(1_500_000)  # zeros: no cut before max, so the tail grows all the time

    def seconds(size: int) -> float:
        chunker = native.Chunker(SPEC)
        begin = time.thread_time()  # whatever else the machine does
        for at in range(0, size, 10):
            chunker.feed(data[at : at + 10])
        return time.thread_time() - begin

    seconds(100_000)
    # Ten times the proportional share: looking at the tail again in every feed would take a hundred times.
    assert seconds(1_500_000) < 15 * 10 * min(seconds(100_000) for _ in range(5))


def test_the_stub_names_what_the_module_has(native: Any) -> None:
    stub = Path(inspect.getfile(native)).with_name("__init__.pyi")
    names: dict[str, set[str]] = {}
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = {member.name for member in node.body if isinstance(member, ast.FunctionDef)} - {
                "__new__"
            }
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = set()
    assert set(names) | {"__version__"} == set(native.__all__)
    for name, methods in names.items():
        real = getattr(native, name)
        if isinstance(real, type):
            assert methods == {member for member in vars(real) if not member.startswith("_")}
    assert Path(inspect.getfile(native)).with_name("py.typed").exists()
