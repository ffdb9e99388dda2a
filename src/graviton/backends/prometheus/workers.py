"""Metrics of several worker processes as those of one server: whichever of them is asked answers for all.

Each worker counts in files of its own, mapped into its memory, in a private folder that the supervisor makes; whoever
is asked adds the files up. That is prometheus-client's way. What is ours:

- Files belong to a *slot*, 0 to n-1, not to a process id. A worker that takes the place of one that died goes on in its
  files: counters go on where they were and the folder never grows, however often workers die. It is safe because the
  supervisor fills a slot again only after it has seen the process end.
- Gauges are about what lives: they are removed when a worker has ended, and again when the next one begins.
- Files have room for all series from the start. A file that grows while the disk is full would not raise an error but
  kill the process (SIGBUS), so they also lie in memory (/dev/shm) where there is such a place.
- What `on_snapshot` was given is called by the process that is asked, for that process. Therefore each worker calls its
  own every `REFRESH_SECONDS` too (`keep_fresh`), and what it set so is at most that old when another one is asked.
- Standard figures of processes (`process_*`) have a label `worker`, the slot or `supervisor`, so that the processor
  time of a worker that was started again is not subtracted from that of others.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from prometheus_client import ProcessCollector, multiprocess, values
from prometheus_client.metrics_core import Metric

from graviton.backends.prometheus.registry import PrometheusMetrics
from graviton.concurrency.executors import in_own_thread
from graviton.errors import GravitonError, StorageFull, Unavailable
from graviton.ports.metrics import MetricKeys

__all__ = ["REFRESH_SECONDS", "WorkerFolder", "keep_fresh", "worker_metrics"]

_untyped_multiprocess: Any = multiprocess
_untyped_values: Any = values
"""These two modules of prometheus-client have no types."""

REFRESH_SECONDS: Final = 5.0
"""Below the 15 s in which Prometheus usually comes, and rare enough to cost nothing."""

_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Tells prometheus-client where the files are; set in workers only, where every metric is of this kind."""

_ROOM: Final = {"counter": 512 * 1024, "histogram": 2 * 1024 * 1024, "gauge": 64 * 1024}
"""Bytes of a file. A series of a counter takes about 200, one of a histogram twenty times as much; a server with all
its routes, a bucket and a database has some hundred of each, so this is four times what is needed."""

_NAME: Final = "graviton-metrics-"
_LOCK: Final = "lock"
_SUPERVISOR: Final = "supervisor"


class WorkerFolder:
    """The folder, as the supervisor has it: `make` it, tell it of every worker that `ended`, `remove` it. As a context
    it is removed at the end. What a supervisor left that was killed is removed by the next `make`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        """What workers are given."""
        self._lock = lock

    @classmethod
    def make(cls, parent: Path | None = None) -> WorkerFolder:
        """A new, empty folder that only this user may look into. Raises StorageFull, Unavailable."""
        parent = parent or _in_memory()
        _sweep(parent)
        new = None
        try:
            new = Path(tempfile.mkdtemp(prefix=f".{_NAME}", dir=parent))
            lock = os.open(new / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _say_pid(new, _SUPERVISOR)
            # Under this name only once it is locked: others that begin take what has no lock for left behind.
            path = new.rename(parent / new.name.removeprefix("."))
        except OSError as error:
            if new is not None:
                shutil.rmtree(new, ignore_errors=True)
            raise _translated(error, parent) from error
        return cls(path, lock)

    def ended(self, slot: int) -> None:
        """The worker in that slot has ended, in whatever way, and is waited for. Call it before the next one begins."""
        _forget(self.path, slot)

    def remove(self) -> None:
        """All workers have ended. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> WorkerFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def worker_metrics(folder: Path, slot: int) -> PrometheusMetrics:
    """The metrics of this process, which is the worker in `slot`, together with those of all others. Once per process,
    before any other metric of prometheus-client is made in it. Raises StorageFull, Unavailable."""
    _forget(folder, slot)
    try:
        _make_room(folder, slot)
        _say_pid(folder, str(slot))
    except OSError as error:
        raise _translated(error, folder) from error
    os.environ[_VARIABLE] = str(folder)
    _untyped_values.ValueClass = _untyped_values.MultiProcessValue(lambda: slot)
    return PrometheusMetrics(lambda: _all(folder))


async def keep_fresh(metrics: PrometheusMetrics, seconds: float = REFRESH_SECONDS) -> None:
    """Refresh again and again, until it is cancelled."""
    while True:
        with suppress(Unavailable):  # no thread is to be had just now
            await in_own_thread(metrics.refresh)
        await asyncio.sleep(seconds)


def _in_memory() -> Path:
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def _all(folder: Path) -> Iterable[Metric]:
    files = [str(file) for file in folder.glob("*.db") if _has_content(file)]
    yield from _untyped_multiprocess.MultiProcessCollector.merge(files)
    yield from _processes(folder)


def _has_content(file: Path) -> bool:
    """Not for the moment between being made and getting its size, and not once its worker has ended."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


def _processes(folder: Path) -> Iterator[Metric]:
    merged: dict[str, Metric] = {}
    for file in sorted(folder.glob("*.pid")):
        with suppress(FileNotFoundError):  # it ends in this moment
            pid = file.read_text()
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                into = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    into.add_sample(sample.name, {**sample.labels, "worker": file.stem}, sample.value)
    yield from merged.values()


def _files(slot: int) -> dict[str, int]:
    """Names as prometheus-client has them, and how large they are made."""
    modes = {key.spec.across.value for key in MetricKeys}
    kinds = ["counter", "histogram", *(f"gauge_{mode}" for mode in sorted(modes))]
    return {f"{kind}_{slot}.db": _ROOM[kind.partition("_")[0]] for kind in kinds}


def _make_room(folder: Path, slot: int) -> None:
    for name, size in _files(slot).items():
        with open(folder / name, "ab") as file:
            if file.tell() >= size:
                continue  # of the worker that was in this slot before
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.write(bytes(size - file.tell()))


def _say_pid(folder: Path, name: str) -> None:
    new = folder / f".{name}"
    new.write_text(str(os.getpid()))
    new.rename(folder / f"{name}.pid")


def _forget(folder: Path, slot: int) -> None:
    (folder / f"{slot}.pid").unlink(missing_ok=True)
    _untyped_multiprocess.mark_process_dead(slot, str(folder))


def _sweep(parent: Path) -> None:
    """Remove what supervisors of this user left that are no more."""
    for folder in parent.glob(f"{_NAME}*"):
        with suppress(OSError):  # somebody else's, or just being removed
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _translated(error: OSError, place: Path) -> GravitonError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return (StorageFull if full else Unavailable)(
        f"no place for the metrics of the workers: {error.strerror}",
        operation="metrics.workers",
        subject=str(place),
        hint="Make room there, or run one worker, which needs none.",
    )
