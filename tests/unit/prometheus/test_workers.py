"""Metrics of several processes are one page, whoever is asked, whoever dies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict

from graviton.backends.prometheus import WorkerFolder, workers
from graviton.errors import StorageFull, Unavailable
from graviton.ports.metrics import MetricKeys, MetricKind
from tests.unit.prometheus.pages import value

ROOT = Path(__file__).parents[3]


class Worker:
    """A worker in a process of its own."""

    def __init__(self, folder: Path, slot: int) -> None:
        command = [sys.executable, "-m", "tests.unit.prometheus.worker", str(folder), str(slot)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.pid = self._process.pid

    def answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the worker died"
        return line.strip()

    def do(self, *lines: str) -> str:
        assert self._process.stdin is not None
        found = ""
        for line in lines:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            found = self.answer()
        return found

    def page(self) -> bytes:
        return bytes.fromhex(self.do("page"))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(60)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[WorkerFolder]:
    with WorkerFolder.make(tmp_path) as made:
        yield made


@pytest.fixture
def pair(folder: WorkerFolder) -> Iterator[list[Worker]]:
    made = [Worker(folder.path, slot) for slot in range(2)]
    try:
        for worker in made:
            assert worker.answer() == "ready"
        yield made
    finally:
        for worker in made:
            worker.kill()


def test_every_worker_answers_for_all(folder: WorkerFolder, pair: list[Worker]) -> None:
    first, second = pair
    first.do("count 5", "observe 0.002", "gauge HTTP_IN_FLIGHT 3", "gauge CACHE_KEPT 1", "gauge UPLOADS_OPEN 10")
    second.do("count 7", "observe 2", "gauge HTTP_IN_FLIGHT 4", "gauge CACHE_KEPT 0", "gauge UPLOADS_OPEN 9")
    for page in (first.page(), second.page()):
        assert value(page, "graviton_bytes_ingested_total") == 12
        assert value(page, "graviton_blocks_ingested_total", status="fresh") == 12
        assert value(page, "graviton_blob_operation_seconds_count", operation="put") == 2
        assert value(page, "graviton_blob_operation_seconds_bucket", operation="put", le="0.0025") == 1
        assert value(page, "graviton_blob_operation_seconds_bucket", operation="put", le="+Inf") == 2
        assert value(page, "graviton_blob_operation_seconds_sum", operation="put") == 2.002
        assert value(page, "graviton_http_in_flight", kind="x") == 7, "a sum"
        assert value(page, "graviton_cache_kept") == 1, "the largest"
        assert value(page, "graviton_uploads_open") == 9, "the latest"
        assert value(page, "graviton_blocks_damaged_total") == 0, "there from the start"
        for worker in ("0", "1", "supervisor"):
            assert value(page, "process_open_fds", worker=worker)

    # One is killed, its number is what it left; another one goes on in its place.
    first.kill()
    page = second.page()
    assert value(page, "graviton_http_in_flight", kind="x") == 7, "nobody has seen it yet"
    folder.ended(0)
    before = sorted(file.name for file in folder.path.iterdir())
    page = second.page()
    assert value(page, "graviton_bytes_ingested_total") == 12, "counters never fall"
    assert value(page, "graviton_http_in_flight", kind="x") == 4
    assert value(page, "graviton_cache_kept") == 0
    assert value(page, "process_open_fds", worker="0") is None
    again = pair[0] = Worker(folder.path, 0)
    assert again.answer() == "ready"
    again.do("count 1", "observe 0.002", "gauge HTTP_IN_FLIGHT 1")
    for page in (again.page(), second.page()):
        assert value(page, "graviton_bytes_ingested_total") == 13
        assert value(page, "graviton_blob_operation_seconds_count", operation="put") == 3
        assert value(page, "graviton_http_in_flight", kind="x") == 5
        assert value(page, "process_open_fds", worker="0")
    after = {file.name for file in folder.path.iterdir()}
    assert after - set(before) <= {
        "0.pid",
        *(f"gauge_{mode}_0.db" for mode in ("livemax", "livemostrecent", "livesum")),
    }


def test_what_one_worker_refreshes_by_itself_another_one_shows(pair: list[Worker]) -> None:
    pair[0].do("fresh 42")
    assert value(pair[1].page(), "graviton_uploads_open") == 42


def test_gauges_of_a_predecessor_are_gone_also_if_nobody_told(folder: WorkerFolder, pair: list[Worker]) -> None:
    pair[0].do("gauge HTTP_IN_FLIGHT 3", "count 2")
    pair[0].kill()
    pair[0] = Worker(folder.path, 0)
    assert pair[0].answer() == "ready"
    assert value(pair[0].page(), "graviton_http_in_flight", kind="x") is None
    assert value(pair[0].page(), "graviton_bytes_ingested_total") == 2


def test_folder_is_private_and_goes(tmp_path: Path) -> None:
    with WorkerFolder.make(tmp_path) as folder:
        assert folder.path.parent == tmp_path
        assert folder.path.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []
    folder.remove()


def test_what_a_dead_supervisor_left_is_swept_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    code = (
        "import sys, os; from pathlib import Path; from graviton.backends.prometheus import WorkerFolder;"
        "print(WorkerFolder.make(Path(sys.argv[1])).path.name, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=False, timeout=60)
    left = tmp_path / killed.stdout.decode().strip()
    assert left.is_dir()
    foreign = tmp_path / "graviton-metrics-link"
    foreign.symlink_to(tmp_path)
    with WorkerFolder.make(tmp_path) as living:
        assert not left.exists()
        assert living.path.is_dir()
        with WorkerFolder.make(tmp_path):
            assert living.path.is_dir()
    assert foreign.is_symlink()


def test_nowhere_to_put_the_files_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="no place for the metrics"):
        WorkerFolder.make(tmp_path / "missing")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with WorkerFolder.make(tmp_path) as folder, pytest.raises(StorageFull, match="No space left"):
        workers.worker_metrics(folder.path, 0)


def test_files_have_room_for_a_large_server_from_the_start(tmp_path: Path) -> None:
    """A file that grows while the disk is full kills the process."""
    series = dict.fromkeys(MetricKind, 0)
    for key in MetricKeys:
        series[key.spec.kind] += 4 ** min(len(key.spec.labels), 3)  # four values of each label
    series[MetricKind.HISTOGRAM] = 150  # 30 routes, 2 methods each; 90 operations of store, bucket and database
    series[MetricKind.COUNTER] += 500
    longest = max(MetricKeys, key=lambda key: len(key.spec.help)).spec.help
    for kind, size in (("counter", 1), ("histogram", 20)):
        file = MmapedDict(str(tmp_path / f"{kind}.db"))  # type: ignore[no-untyped-call]
        try:
            for number in range(series[MetricKind(kind)] * size):
                labels = '{"method": "DELETE", "route": "/api/uploads/{id}/missing", "le": "0.00025"}'
                file.write_value(f'["graviton_http_request_seconds", "{number}", {labels}, "{longest}"]', 1.0, 0.0)  # type: ignore[no-untyped-call]
            assert file._used < workers._ROOM[kind]
        finally:
            file.close()  # type: ignore[no-untyped-call]
