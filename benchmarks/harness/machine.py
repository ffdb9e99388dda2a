"""What the figures depend on: hardware, file system, versions, commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["commit", "describe", "file_system"]

REPOSITORY = Path(__file__).resolve().parents[2]

PROGRAMS = {"borg": "--version", "restic": "version", "casync": "--version", "cp": "--version"}
PACKAGES = ("graviton", "graviton-kernel", "disk-objectstore", "chunkstore", "pyfastcdc", "blake3")


def describe(work: Path) -> dict[str, str]:
    """One line per fact; what cannot be found out is left away."""
    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit() + (" with uncommitted changes" if _said("git", "status", "--porcelain", "-uno") else ""),
        "cpu": _first(r"model name\s*:\s*(.*)", "/proc/cpuinfo") or platform.processor(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file system": file_system(work),
        "python": platform.python_version(),
        "SIMD path": _simd_path(),
    }
    for program, flag in PROGRAMS.items():
        facts[program] = _said(program, flag).split("\n")[0]
    for package in PACKAGES:
        facts[package] = _version(package)
    return {name: fact for name, fact in facts.items() if fact}


def commit() -> str:
    """The commit that is checked out, short."""
    return _said("git", "rev-parse", "--short=8", "HEAD") or "unknown"


def file_system(path: Path) -> str:
    """Type and options of the mount that `path` is on."""
    found = ("", "unknown")
    resolved = str(path.resolve())
    try:
        mounts = Path("/proc/mounts").read_text()
    except OSError:
        return "unknown"
    for line in mounts.splitlines():
        _, point, kind, options, *_ = line.split()
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(found[0]):
            found = (point, f"{kind} ({options})")
    return found[1]


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _first(pattern: str, path: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return ""
    return found.group(1).strip() if found else ""


def _memory() -> str:
    kib = _first(r"MemTotal:\s*(\d+)", "/proc/meminfo")
    return f"{int(kib) / 2**20:.1f} GiB" if kib else ""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _simd_path() -> str:
    try:
        import graviton_kernel
    except ImportError:
        return "none: Python kernel"
    return str(graviton_kernel.simd_path())
