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
    """Run one command line; its exit code: 0 done, 1 failed, not found or damaged, 2 wrong usage, 130 interrupted.

    Without `argv` this process is the command's: Ctrl-C ends it with one line at any moment.
    """
    if argv is not None:
        return _main(argv)
    _on_interrupt(130, b"graviton: interrupted\n")
    code = _main(sys.argv[1:])
    _on_interrupt(code, b"")
    if "obstore" in sys.modules or "granian" in sys.modules:
        _leave(code)
    return code


def _leave(code: int) -> None:
    """End the process without taking the interpreter down: threads of a driver written in Rust that let go of an object
    of Python's meanwhile would abort it (the driver of buckets does, and the threads of the HTTP server, now and then,
    with a panic after all was served and closed in order). Whatever a command began it has ended by now."""
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # the command has told of a full disk; a stream that is closed, or not there, has nothing to say
    os._exit(code)


def _on_interrupt(code: int, text: bytes) -> None:
    """From now on Ctrl-C ends the process at once: nothing is at stake before a command begins, which has its own
    handling (running.py), and after it ended. A KeyboardInterrupt would be shown as a traceback wherever nobody can
    catch it: in a finaliser, in the interpreter's end."""
    import signal

    def leave(signum: int, frame: object) -> None:
        try:
            os.write(2, text)
        finally:
            os._exit(code)

    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # whoever ignores it (nohup) goes on ignoring it
        signal.signal(signal.SIGINT, leave)


def _main(args: Sequence[str]) -> int:
    _fill_standard_descriptors()
    if list(args) == ["--version"]:
        return _version()
    from graviton.cli.app import run

    return run(args)


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
