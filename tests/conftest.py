"""What every test shares: the kernel in use, and how Hypothesis runs."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from graviton.core.chunking._kernel import Kernel, select_kernel

# No deadlines and no "too slow": the Python kernel is a thousand times slower than the native one, and machines are
# shared. A failure prints the blob that replays it (`@reproduce_failure`).
_COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", _COMMON, max_examples=50)
settings.register_profile("ci", _COMMON, max_examples=100)
settings.register_profile("campaign", _COMMON, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def _kernel() -> Kernel:
    return select_kernel(os.environ.get("GRAVITON_KERNEL", "auto"))


def pytest_configure(config: pytest.Config) -> None:
    # Shells start what runs in the background with interrupts ignored, and children inherit that: tests send some.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Where there is no native kernel, and the run says so, stores of default settings fall back with a warning.
    if os.environ.get("GRAVITON_KERNEL") == "python":
        config.addinivalue_line("filterwarnings", "ignore:the native kernel is not installed:RuntimeWarning")


_MARKS = ("s3", "postgres", "python_kernel")
"""Of suites that are chosen by `-m`."""


@functools.cache
def _names(path: Path, mark: str) -> bool:
    return f"pytest.mark.{mark}" in path.read_text()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m s3` only modules that name the mark are imported: all of them take ten seconds."""
    mark = config.option.markexpr
    return True if mark in _MARKS and collection_path.is_file() and not _names(collection_path, mark) else None


@pytest.hookimpl(tryfirst=True)  # before any test is deselected
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that had a mark from somewhere else than its module would be in no suite."""
    for item in items:
        for mark in _MARKS:
            if item.get_closest_marker(mark) and not _names(item.path, mark):
                raise pytest.UsageError(f"{item.nodeid} has the mark {mark!r}: its module must name it")


def pytest_report_header() -> str:
    kernel = _kernel()
    return f"graviton kernel: {kernel.name}, simd: {kernel.simd}"


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """The kernel this run is about, chosen by GRAVITON_KERNEL."""
    return _kernel()
