"""FAULTS_REACH=long makes a campaign of the short forms in the suite; FAULTS_RESULTS names a file for its figures."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness.bench import Bench, Figures, Reach

_FIGURES = pytest.StashKey[Figures]()


@pytest.fixture(scope="session")
def reach() -> Reach:
    return Reach(os.environ.get("FAULTS_REACH") == "long")


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash.setdefault(_FIGURES, Figures(time.monotonic()))


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, reach: Reach, figures: Figures) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("faults"), reach, figures)
    yield made
    made.close()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Only a run in which everything passed says how often the promises held."""
    target = os.environ.get("FAULTS_RESULTS")
    if target and exitstatus == pytest.ExitCode.OK:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        outcomes = {outcome: len(reporter.stats.get(outcome, [])) for outcome in ("passed", "skipped")}
        session.config.stash[_FIGURES].save(Path(target), outcomes)
