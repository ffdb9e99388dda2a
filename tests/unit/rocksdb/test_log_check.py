"""The walk over RocksDB's logs, of logs that RocksDB itself has written."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rocksdict import AccessType, Options, Rdict, WriteBatch

from graviton.backends.rocksdb._log_check import BLOCK, HEADER, check_logs, log_names
from graviton.backends.rocksdb._options import Tuning
from graviton.backends.rocksdb.config import RocksConfig
from graviton.errors import IntegrityError

Batches = Sequence[Sequence[bytes]]
"""Of each batch the values; keys are numbers."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def written(folder: Path, batches: Batches) -> Path:
    """A database whose only log holds `batches`, as a process that was killed leaves it; the log."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        store = Rdict(place, _options(create=True))
        for numbered, values in enumerate(batches):
            batch = WriteBatch(raw_mode=True)
            for n, value in enumerate(values):
                batch[b"%04d %04d" % (numbered, n)] = value
            store.write(batch)
        shutil.copytree(place, folder)
        store.close()
    [log] = log_names(str(folder))
    return folder / log


def _options(create: bool = False) -> Options:
    options = Tuning(RocksConfig(Path("unused"))).options
    options.create_if_missing(create)
    return options


def read(folder: Path) -> int | None:
    """How many changes there are, as RocksDB reads them; None if it finds damage."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        shutil.copytree(folder, place, dirs_exist_ok=True)
        try:
            store = Rdict(place, _options(), access_type=AccessType.read_only(False))
        except Exception as error:
            if "Corruption" not in str(error):
                raise
            return None
        count = len(list(store.keys()))
        store.close()
        return count


def headers(data: bytes) -> Iterator[int]:
    """Where the parts of records begin."""
    at = 0
    while at < len(data):
        if BLOCK - at % BLOCK < HEADER.size:
            at += BLOCK - at % BLOCK
            continue
        yield at
        at += HEADER.size + HEADER.unpack_from(data, at)[1]


def changes(folder: Path) -> int:
    """How many there are in the logs."""
    found = check_logs(str(folder), str(folder))
    return 0 if found is None else found.behind - found.first


VALUES = st.one_of(
    st.integers(0, 200),
    st.integers(BLOCK - 80, BLOCK + 10),  # ends of blocks: the paddings, empty parts
    st.integers(0, 3 * BLOCK),
).flatmap(lambda size: st.sampled_from([bytes(size), b"\xff" * size, struct.pack("<Q", size) * (size // 8)]))
LOGS = st.lists(st.lists(VALUES, min_size=1, max_size=3), max_size=6)
PLACES = st.lists(st.floats(0, 1), min_size=3, max_size=3)
"""Parts of a whole that is known later."""
SOME = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@SOME
@given(LOGS, PLACES)
def test_what_rocksdb_writes_is_whole_and_cut_short_it_is_torn(batches: Batches, cuts: list[float]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "store")
        log = written(folder, batches)
        count = sum(map(len, batches))
        assert changes(folder) == count
        content = log.read_bytes()
        for cut in cuts:
            log.write_bytes(content[: round(cut * len(content))])
            assert changes(folder) == read(folder)
        log.write_bytes(content + bytes(70_000))
        assert changes(folder) == count


@SOME
@given(LOGS.filter(bool), st.floats(0, 1), st.integers(0, HEADER.size * 8 - 1))
def test_damage_is_found_by_the_walk_or_by_rocksdb(batches: Batches, where: float, bit: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "store")
        log = written(folder, batches)
        content = bytearray(log.read_bytes())
        starts = list(headers(content))
        content[starts[round(where * (len(starts) - 1))] + bit // 8] ^= 1 << bit % 8
        log.write_bytes(content)
        try:
            changes(folder)
        except IntegrityError:
            return
        assert read(folder) is None, "changes are lost without a word"


@pytest.mark.parametrize(
    "batches",
    [
        [[b"a" * 300]] * 12,
        [[b"a" * 20], [b"b" * 40_000], [b"c" * 70_000], [b"d"]],
        [[b"\x00" * 300], [b"\x00" * 40_000]],
    ],
    ids=["many", "parts", "zeros"],
)
def test_every_bit_of_every_header_is_guarded(folder: Path, batches: Batches) -> None:
    log = written(folder, batches)
    content = log.read_bytes()
    seen_by_rocksdb = 0
    for start in headers(content):
        for bit in range(32 if start % 7 else 0, HEADER.size * 8):  # RocksDB's own check needs no test for each bit
            damaged = bytearray(content)
            damaged[start + bit // 8] ^= 1 << bit % 8
            log.write_bytes(damaged)
            try:
                changes(folder)
            except IntegrityError:
                pass
            else:
                seen_by_rocksdb += 1
                assert read(folder) is None, f"bit {bit} of the record at {start} loses changes without a word"
    assert seen_by_rocksdb > 0
    log.write_bytes(content)
    assert changes(folder) == read(folder)


def test_a_record_of_zeros_is_no_end_where_others_follow(folder: Path) -> None:
    log = written(folder, [[b"a" * 300]] * 150)
    content = log.read_bytes()
    starts = [*headers(content), len(content)]
    for n in (0, 1, 20, len(starts) - 3):
        log.write_bytes(content[: starts[n]] + bytes(starts[n + 1] - starts[n]) + content[starts[n + 1] :])
        with pytest.raises(IntegrityError, match=log.name):
            changes(folder)
    page = content[:4096] + bytes(4096) + content[8192:]
    log.write_bytes(page)
    with pytest.raises(IntegrityError, match=log.name):
        changes(folder)


def test_a_length_that_is_garbage_hides_neither_its_record_nor_the_next(folder: Path) -> None:
    log = written(folder, [[os.urandom(300)] for _ in range(20)])
    content = log.read_bytes()
    starts = list(headers(content))
    for start in (starts[3], starts[-2], starts[-1]):
        for length in (0x7FFF - start, 0x6ABC, 0x7000):
            damaged = bytearray(content)
            damaged[start + 4 : start + 6] = length.to_bytes(2, "little")
            log.write_bytes(damaged)
            with pytest.raises(IntegrityError, match=log.name):
                changes(folder)


def test_changes_that_are_missing_between_logs_are_missed(folder: Path) -> None:
    first = written(folder, [[b"%d" % n * 300] for n in range(10)])
    content = first.read_bytes()
    starts = [*headers(content), len(content)]
    logs = [folder / f"{800_000 + n}.log" for n in range(3)]
    first.unlink()

    def split(*cuts: int) -> None:
        for log, start, end in zip(logs, [0, *cuts], [*cuts, 10], strict=True):
            log.write_bytes(content[starts[start] : starts[end]])

    for cuts in ((3, 6), (3, 3), (0, 10), (10, 10), (0, 0)):
        split(*cuts)
        assert changes(folder) == 10
    split(3, 6)
    logs[1].rename(folder / "aside")
    with pytest.raises(IntegrityError, match=rf"changes 4 to 6 .* {logs[0].name} and {logs[2].name}"):
        changes(folder)
    (folder / "aside").rename(logs[1])
    for end in (starts[3] - 1, starts[2]):
        logs[0].write_bytes(content[:end])
        with pytest.raises(IntegrityError, match=rf"changes 3 to 3 .* {logs[0].name} and {logs[1].name}"):
            changes(folder)
    # A log that a crash tore, that was recovered, and whose removal the power took back: what follows goes on from it.
    logs[0].write_bytes(content[: starts[3]] + content[starts[3] : starts[4] - 50])
    assert changes(folder) == 10
    for log in logs:
        log.unlink()
    with pytest.raises(IntegrityError, match="has no log"):
        changes(folder)


def test_a_large_log_is_walked_quickly_and_in_little_memory(folder: Path) -> None:
    log = written(folder, [[b"v" * 100]] * 1000)
    content = log.read_bytes()
    began = time.perf_counter()
    for _ in range(20):
        changes(folder)
    seconds = time.perf_counter() - began
    assert seconds / (20 * len(content)) * (64 << 20) < 3, "far from 0.2 s for a log of 64 MiB"
    with log.open("r+b") as file:
        file.truncate(256 << 20)
    assert changes(folder) == 1000
