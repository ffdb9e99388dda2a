"""`make stack`: the lines that it prints are run as a newcomer would, and Ctrl-C, pressed twice, leaves nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.s3

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 90


class Stack:
    """The running script, and what it has printed."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.folder = folder
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "scripts" / "stack.py"],
                stdout=log,
                stderr=log,
                env=os.environ | {"TMPDIR": str(folder)},
                start_new_session=True,
            )

    def printed(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while text not in self.printed():
            assert self.process.poll() is None, self.printed()
            assert time.monotonic() < until, self.printed()
            time.sleep(0.05)


@pytest.fixture
def stack() -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="graviton-s-"))  # short: the name of a socket has at most 107 bytes
    folder.chmod(0o1777)  # as /tmp: where we are root, the database runs as nobody, and removes its folder
    try:
        made = Stack(folder)
        yield made
        if made.process.poll() is None:
            made.process.send_signal(signal.SIGTERM)
            made.process.wait(PATIENCE_SECONDS)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_what_is_printed_works_and_nothing_stays(stack: Stack) -> None:
    stack.wait_for("Ctrl-C ends")
    text = stack.printed()
    assert "all in order" in text
    exports = "\n".join(re.findall(r"^ +(export .*)$", text, re.MULTILINE))
    command = f"{sys.executable} -m graviton.cli.main"
    script = f"{exports}\n{command} put {ROOT / 'README.md'}"
    if shutil.which("curl"):
        [curl] = re.findall(r"^ +(curl .*\\\n.*)$", text, re.MULTILINE)
        script += f"\n{curl}\n" + "\n".join(re.findall(r"^ +(curl -s .*/api/.*)$", text, re.MULTILINE))
    done = subprocess.run(["bash", "-ec", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "README.md" in done.stdout
    assert not shutil.which("curl") or "<Key>cas/blocks/blake3/" in done.stdout, done.stdout
    assert not shutil.which("curl") or '"blobs":1' in done.stdout, done.stdout  # by the server, put again
    stack.process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(PATIENCE_SECONDS) == 0, stack.printed()
    assert [path.name for path in stack.folder.iterdir()] == ["log"]
