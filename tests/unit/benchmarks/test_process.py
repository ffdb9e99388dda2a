"""Whole processes seen from outside, and the space they work in."""

import sys
import time

import pytest

from benchmarks.harness.process import CommandError, run
from benchmarks.harness.space import MIB, NoSpaceError, Space, same_bytes


def test_output_and_usage_of_a_process_are_its_own():
    done = run([sys.executable, "-c", "x = bytearray(100 << 20); print(len(x))"])
    assert done.output == f"{100 << 20}\n"
    assert done.peak_rss_bytes > 100 * MIB
    assert done.wall_seconds > 0
    assert done.cpu_seconds > 0


def test_children_count_towards_cpu_time():
    burn = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    assert run([sys.executable, "-c", parent]).cpu_seconds >= 0.2


def test_a_command_that_fails_says_what_it_said():
    with pytest.raises(CommandError, match="ended with 3: no such blob"):
        run([sys.executable, "-c", "import sys; sys.stderr.write('no such blob'); sys.exit(3)"])


def test_a_command_that_does_not_end_is_killed_with_its_children(monkeypatch):
    monkeypatch.setattr("benchmarks.harness.process.TIMEOUT_SECONDS", 0.5)
    begin = time.monotonic()
    with pytest.raises(CommandError, match="-9"):
        run(["sh", "-c", "sleep 60 & wait"])
    assert time.monotonic() - begin < 30


def test_inputs_are_the_same_in_every_run(tmp_path):
    with Space(tmp_path / "one") as one, Space(tmp_path / "other") as other:
        assert same_bytes(one.random_file(5 * MIB + 1), other.random_file(5 * MIB + 1))
        assert not same_bytes(one.random_file(5 * MIB + 1), one.random_file(5 * MIB))


def test_nothing_is_left_of_a_run(tmp_path):
    with Space(tmp_path) as space:
        (space.fresh("store") / "file").write_bytes(b"x")
        assert space.fresh("store") != space.fresh("store")
    assert list(tmp_path.iterdir()) == []


def test_a_measurement_that_would_fill_the_disk_is_refused(tmp_path):
    with Space(tmp_path) as space, pytest.raises(NoSpaceError, match="GiB are free"):
        space.need(1 << 60)


def test_a_measured_process_keeps_bytecode_and_default_settings_whatever_surrounds_us(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("GRAVITON_CHUNKER", "small")
    code = "import os, sys; print(sys.dont_write_bytecode, os.environ.get('GRAVITON_CHUNKER'))"
    assert run([sys.executable, "-c", code]).output == "False None\n"
