"""What every test shares: the kernel in use, and how Hypothesis runs."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from graviton.core.chunking._kernel import Kernel, select_kernel

# No deadlines and no "too slow": the Python kernel is a thousand times slower than the native one, and machines are
# shared. A failure prints the blob that replays it (`@reproduce_failure`).
_COMMON = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", _COMMON, max_examples=50)
settings.register_profile("ci", _COMMON, max_examples=200)
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


def pytest_report_header() -> str:
    kernel = _kernel()
    return f"graviton kernel: {kernel.name}, simd: {kernel.simd}"


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """The kernel this run is about, chosen by GRAVITON_KERNEL."""
    return _kernel()
