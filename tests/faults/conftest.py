"""FAULTS_REACH=long makes a campaign of the short forms in the suite; FAULTS_RESULTS names a file for its figures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness.bench import Bench, Figures, Reach


@pytest.fixture(scope="session")
def reach() -> Reach:
    return Reach(os.environ.get("FAULTS_REACH") == "long")


@pytest.fixture(scope="session")
def figures() -> Iterator[Figures]:
    counted = Figures()
    yield counted
    if os.environ.get("FAULTS_RESULTS"):
        counted.save(Path(os.environ["FAULTS_RESULTS"]))


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, reach: Reach, figures: Figures) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("faults"), reach, figures)
    yield made
    made.close()
