"""The laws, checked in a process of its own that lives as long as the run: most of what a case costs is to check it."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from tests.faults.harness.laws import bad_backup, broken_laws
from tests.faults.harness.processes import CASE_SECONDS, stay_on_one_cpu


class Checker:
    """That process from the tests' side. Close it."""

    def __init__(self) -> None:
        self._process = _begun()

    def broken(
        self, root: Path, must: Iterable[str], gone: Iterable[str], puts: Iterable[str], *, is_copy: bool
    ) -> list[str]:
        """Every law that the store at `root` breaks, in words; that the checker hangs or dies over it is one."""
        request = {"must": list(must), "gone": list(gone), "puts": list(puts), "is_copy": is_copy}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"root": str(root), **request}).encode() + b"\n")
        self._process.stdin.flush()
        in_time = bool(select.select([self._process.stdout], [], [], CASE_SECONDS)[0])
        if in_time and (answer := self._process.stdout.readline()):
            found: list[str] = json.loads(answer)
            return found
        if not in_time:
            self._process.send_signal(signal.SIGABRT)  # it shows where it stands
        self.close()
        ended, self._process = self._process.returncode, _begun()
        return [f"the checker hung or died: {ended}"]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def _begun() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.harness.checker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parents[3],
    )


def _broken(root: Path, must: list[str], gone: list[str], puts: list[str], is_copy: bool) -> list[str]:
    try:
        problems = asyncio.run(broken_laws(root, set(must), set(gone), puts, is_copy))
        return problems + bad_backup(root.parent / "backup.meta")
    except BaseException as error:  # noqa: BLE001 - the test shows it
        return ["".join(traceback.format_exception(error))]


def main() -> None:
    """Serve until the input ends."""
    faulthandler.enable()
    stay_on_one_cpu()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        problems = _broken(Path(request.pop("root")), **request)
        sys.stdout.buffer.write(json.dumps(problems).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
