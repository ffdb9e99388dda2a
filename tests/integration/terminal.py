"""A pseudo-terminal, and what it shows: for tests of what only people get to see."""

from __future__ import annotations

import os
import pty
import re
import select
import threading
from pathlib import Path
from typing import Any

from tests.integration.cli_process import start

__all__ = ["ERASE", "Screen", "Terminal"]

ERASE = "\r\x1b[2K"
"""How the progress bar goes to the beginning of its line and empties it."""


class Screen:
    """A terminal whose other side is the descriptor `theirs`, which whoever uses it closes."""

    def __init__(self) -> None:
        self._fd, self.theirs = pty.openpty()
        self.shown = bytearray()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            select.select([self._fd], [], [])
            try:
                self.shown += os.read(self._fd, 65536)
            except OSError:  # the other side is closed
                return

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._fd, keys)

    def close(self) -> None:
        """After the other side was closed."""
        self._thread.join()
        os.close(self._fd)

    @property
    def text(self) -> str:
        """What was shown, without its colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.shown.decode())

    @property
    def lines(self) -> list[str]:
        """What is left to be read in the end."""
        text = self.text.replace("\r\n", "\n").removesuffix("\n")
        return [line.rpartition(ERASE)[2] for line in text.split("\n")]


class Terminal(Screen):
    """A process on a terminal; descriptors given as `options` lead elsewhere."""

    def __init__(self, root: Path, *args: str | os.PathLike[str], **options: Any) -> None:
        super().__init__()
        on_terminal = {"stdin": self.theirs, "stdout": self.theirs, "stderr": self.theirs}
        self.process = start(root, *args, **(on_terminal | options))
        os.close(self.theirs)

    def end(self) -> int:
        """Wait for the process; its exit code."""
        code = self.process.wait(60)
        self.close()
        return code
