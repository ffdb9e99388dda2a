"""The way in of the command line: `graviton`.

Nothing heavy is imported here: `graviton --version` must not wait for an event loop or an option parser. What a
command is and how to add one: app.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; its exit code: 0 done, 1 failed, not found or damaged, 2 wrong usage, 130 interrupted."""
    args = sys.argv[1:] if argv is None else list(argv)
    _fill_standard_descriptors()
    if args == ["--version"]:
        return _version()
    try:
        from graviton.cli.app import run

        return run(args)
    except KeyboardInterrupt:  # while modules were still being loaded
        sys.stderr.write("graviton: interrupted\n")
        return 130


def _fill_standard_descriptors() -> None:
    """Where one of the first three descriptors is closed, the next file that is opened gets its number, and what is
    meant for standard output would be written into it: into a block, or the database."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one


def _version() -> int:
    from graviton._version import __version__

    if sys.stdout is None:
        return 1
    try:
        sys.stdout.write(f"graviton {__version__}\n")
        sys.stdout.flush()
    except OSError:
        from graviton.cli.output import abandon_stdout

        abandon_stdout()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
