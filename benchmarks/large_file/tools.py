"""The tools that take part: how each stores a file and gives it back, in its fastest sensible configuration.

Each has `prepare` (making a repository, not measured), `put`, and `get` into a folder. Every setting that is not the
tool's default is there to make it faster or to spare it work that graviton does not do.
"""

from __future__ import annotations

import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness.process import Finished, plain_env, run
from benchmarks.harness.section import graviton_command, graviton_env

__all__ = ["PEERS", "Borg", "Casync", "Chunkstore", "Copy", "DiskObjectstore", "Graviton", "Restic", "Tool"]

LIBRARY_PEERS = Path(__file__).with_name("library_peers.py")


class Tool(ABC):
    """One way to store a file. `home` is an empty folder on the file system that is measured."""

    name: str
    settings: str
    """What was chosen and why it is fair, for the report."""
    install: str = ""
    """How to get it."""

    def present(self) -> bool:
        """Whether it is installed."""
        return True

    def prepare(self, home: Path) -> None:
        """Everything that happens once in the life of a repository."""

    @abstractmethod
    def put(self, home: Path, source: Path) -> Finished:
        """Store `source`."""

    @abstractmethod
    def get(self, home: Path, out: Path) -> tuple[Finished, Path]:
        """Give it back below the empty folder `out`; the file."""


class Program(Tool):
    """A tool that Debian packages."""

    package: str

    def __init__(self) -> None:
        self.install = f"apt-get install {self.package} (scripts/bench-peers does it)"

    def present(self) -> bool:
        return shutil.which(self.name) is not None


class Graviton(Tool):
    """`graviton put FILE` and `graviton get ID -o FILE`."""

    name = "graviton"
    settings = (
        "all defaults; the put makes the store (peers' repositories are made before); blocks and metadata are fsynced "
        "before the id is printed; get verifies every block and is not fsynced"
    )

    def __init__(self) -> None:
        self._id = ""

    def put(self, home: Path, source: Path) -> Finished:
        done = run([graviton_command(), "put", source], env=graviton_env(home / "store"))
        self._id = done.output.split()[0]
        return done

    def get(self, home: Path, out: Path) -> tuple[Finished, Path]:
        target = out / "back"
        return run([graviton_command(), "get", self._id, "-o", target], env=graviton_env(home / "store")), target


class Borg(Program):
    """borg create and extract."""

    name = "borg"
    package = "borgbackup"
    settings = (
        "`init -e none`, `create -C none`: no encryption, no compression, SHA-256 ids, its own content-defined chunker "
        "(about 2 MiB); it fsyncs its segments"
    )

    def prepare(self, home: Path) -> None:
        run(["borg", "init", "-e", "none", home / "repo"], env=self._env(home))

    def put(self, home: Path, source: Path) -> Finished:
        command = ["borg", "create", "-C", "none", f"{home / 'repo'}::one", source.name]
        return run(command, cwd=source.parent, env=self._env(home))

    def get(self, home: Path, out: Path) -> tuple[Finished, Path]:
        done = run(["borg", "extract", f"{home / 'repo'}::one"], cwd=out, env=self._env(home))
        return done, next(out.iterdir())

    def _env(self, home: Path) -> Mapping[str, str]:
        return plain_env() | {
            "BORG_BASE_DIR": str(home / "base"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }


class Restic(Program):
    """restic backup and restore."""

    name = "restic"
    package = "restic"
    settings = (
        "`--no-cache --compression off --pack-size 64 -o local.connections=4`: faster here than its defaults; it "
        "always encrypts and cannot be told not to; SHA-256, content-defined blocks of about 1 MiB; it fsyncs its packs"
    )

    def prepare(self, home: Path) -> None:
        self._run(home, "init", "--quiet")

    def put(self, home: Path, source: Path) -> Finished:
        fast = ["--compression", "off", "--pack-size", "64", "-o", "local.connections=4"]
        return self._run(home, "backup", "--quiet", *fast, source.name, cwd=source.parent)

    def get(self, home: Path, out: Path) -> tuple[Finished, Path]:
        done = self._run(home, "restore", "latest", "--quiet", "-o", "local.connections=4", "--target", str(out))
        return done, next(path for path in out.rglob("*") if path.is_file())

    def _run(self, home: Path, *words: str, cwd: Path | None = None) -> Finished:
        env = plain_env() | {"RESTIC_PASSWORD": "benchmark"}
        return run(["restic", "--no-cache", "--repo", home / "repo", *words], cwd=cwd, env=env)


class Casync(Program):
    """casync make and extract of a blob index."""

    name = "casync"
    package = "casync"
    settings = (
        "`--digest=sha256 --chunk-size=262144:1048576:4194304`: our block sizes and the faster digest, 1.6 times as "
        "fast as its defaults; it cannot store without compression, zstd is the fastest of its three; it never fsyncs"
    )

    def put(self, home: Path, source: Path) -> Finished:
        sizes = ["--digest=sha256", "--chunk-size=262144:1048576:4194304"]
        return run(["casync", "make", *sizes, f"--store={home / 'store'}", home / "one.caibx", source])

    def get(self, home: Path, out: Path) -> tuple[Finished, Path]:
        target = out / "back"
        return run(["casync", "extract", f"--store={home / 'store'}", home / "one.caibx", target]), target


class Copy(Tool):
    """`cp` and an fsync: what the disk can do."""

    name = "cp + fsync"
    settings = "`cp --reflink=never SOURCE TARGET && sync TARGET` (sync of a file is its fsync); get is `cp` alone"

    def put(self, home: Path, source: Path) -> Finished:
        target = home / "copy"
        return run(["sh", "-c", 'cp --reflink=never "$1" "$2" && sync "$2"', "sh", source, target])

    def get(self, home: Path, out: Path) -> tuple[Finished, Path]:
        return run(["cp", "--reflink=never", home / "copy", out / "back"]), out / "back"


class LibraryPeer(Tool):
    """A Python library, driven by a few lines in a process of its own."""

    module: str

    def present(self) -> bool:
        from importlib.util import find_spec

        return find_spec(self.module) is not None

    def put(self, home: Path, source: Path) -> Finished:
        return run([sys.executable, LIBRARY_PEERS, self.module, "put", home / "store", source])

    def get(self, home: Path, out: Path) -> tuple[Finished, Path]:
        return run([sys.executable, LIBRARY_PEERS, self.module, "get", home / "store", out / "back"]), out / "back"


class DiskObjectstore(LibraryPeer):
    """disk-objectstore: no chunking."""

    name = "disk-objectstore"
    module = "disk_objectstore"
    settings = "for comparison only: one loose object, no chunking, no deduplication within it; SHA-256, fsynced"
    install = "pip install disk-objectstore"


class Chunkstore(LibraryPeer):
    """chunkstore: content-defined chunks, Rust core."""

    name = "chunkstore"
    module = "chunkstore"
    settings = "for comparison only: filesystem backend, defaults, the whole file as one bytes object"
    install = "pip install chunkstore"


PEERS = (Borg, Restic, Casync)
"""Those that the targets speak of."""
