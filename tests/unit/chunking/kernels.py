"""Both kernels for tests; the native one may be absent unless GRAVITON_KERNEL asks for it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from graviton.core.chunking import Kernel, NativeKernel, PythonKernel, select_kernel
from graviton.errors import ConfigError

NAMES = ("python", "native")


def named(name: str) -> Kernel:
    """The kernel called `name`; skips if the native one is missing, fails if it is missing and was requested."""
    try:
        return select_kernel(name)
    except ConfigError as error:
        if os.environ.get("GRAVITON_KERNEL") == "native" or "self-test" in error.message:
            raise
        pytest.skip(f"{error.message} (GRAVITON_KERNEL is not native)")


def native_module() -> Any:
    """The module `graviton_kernel` behind the native kernel."""
    kernel = named("native")
    assert isinstance(kernel, NativeKernel)
    return kernel._module


def python_kernel() -> Kernel:
    return PythonKernel()
