from __future__ import annotations

from typing import Any

import pytest

from graviton.core.chunking import Kernel
from tests.unit.chunking import kernels


@pytest.fixture(params=kernels.NAMES)
def each_kernel(request: pytest.FixtureRequest) -> Kernel:
    """The reference, then the native kernel: laws that hold for both."""
    return kernels.named(request.param)


@pytest.fixture
def native() -> Any:
    """The module `graviton_kernel`."""
    return kernels.native_module()
