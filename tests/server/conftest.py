"""One server for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.serving import Served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose blobs have many small blocks."""
    root: Path = tmp_path_factory.mktemp("served") / "store"
    with Served(root, GRAVITON_CHUNKER="fixed-v1:64KiB") as served:
        yield served
