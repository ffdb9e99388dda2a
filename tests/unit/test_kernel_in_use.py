from __future__ import annotations

import os

import pytest

from graviton.core.chunking._kernel import Kernel

pytestmark = pytest.mark.python_kernel


def test_run_uses_the_kernel_it_was_asked_for(kernel: Kernel) -> None:
    asked = os.environ.get("GRAVITON_KERNEL", "auto")
    assert asked in ("auto", kernel.name)
