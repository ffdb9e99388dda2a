"""How a command is declared: the `command` decorator, and the options that many commands share."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from enum import Enum, auto
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from graviton.cli.call import Call
from graviton.cli.errors import BadArgument
from graviton.errors import ConfigError, InvalidInput

__all__ = ["PathText", "WorksOn", "command", "common_options", "offer_chunkers", "offer_hashes", "offer_ids", "parsed"]

_T = TypeVar("_T")


class WorksOn(Enum):
    """What a command needs."""

    STORE = auto()
    """The store itself, on its machine."""
    ANY_STORE = auto()
    """A store, also one behind a URL."""
    NOTHING = auto()
    """No store, or none that somebody else has."""


class PathText(click.Path):
    """A path as it is given. Nobody looks at it yet: by default click refuses the whole command, as wrong usage, for
    one file that may not be read."""

    def __init__(self) -> None:
        super().__init__(readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuses what can be no path at all."""
        if value == "":
            self.fail("a path is not empty", param, ctx)
        return super().convert(value, param, ctx)


def command(works_on: WorksOn = WorksOn.STORE, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command. The function gets the `Call` first; what it returns is the exit code, None meaning 0. A
    coroutine function runs on an event loop that Ctrl-C cancels. Its docstring is the help text. Where it does not work
    on a store behind a URL, one that is given is refused."""

    def declare(function: Callable[..., Any]) -> click.Command:
        @wraps(function)
        def entered(*args: Any, **values: Any) -> int:
            context = click.get_current_context()
            call = context.find_object(Call)
            assert call is not None
            _check_place(call, works_on, context.command_path)
            work = partial(function, call, *args, **values)
            if not inspect.iscoroutinefunction(function):
                return work() or 0
            from graviton.cli.running import run_async

            return run_async(work) or 0

        made: click.Command = click.command(**settings)(common_options(entered))
        return made

    return declare


def _check_place(call: Call, works_on: WorksOn, name: str) -> None:
    """Raises BadArgument for a URL that is no use to the command, ConfigError for one from the environment."""
    if call.url is not None and call.root is not None:
        raise BadArgument("--url and --root name two stores", operation=name, hint="Leave one of them out.")
    if works_on is WorksOn.ANY_STORE:
        return
    hint = "Run it on the machine of the store, with --root; put, get, cat, stat, ls, rm, verify and stats take a URL."
    if call.url is not None:
        raise BadArgument(f"--url: `{name}` runs on the store itself", operation=name, hint=hint)
    if works_on is WorksOn.STORE and call.root is None and os.environ.get("GRAVITON_URL", "").strip():
        raise ConfigError(
            f"GRAVITON_URL names a server, and `{name}` runs on the store itself",
            operation=name,
            subject="GRAVITON_URL",
            hint=hint,
        )


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--root, --url, --lock-wait, --json, --quiet, --verbose, --debug: before or after the name of the command."""
    for option in reversed(_COMMON):
        function = option(function)
    return function


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that keeps the value in the `Call`; a later place on the line wins, absence changes nothing."""

    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value:
            call = context.ensure_object(Call)
            setattr(call if name in _OF_CALL else call.out, name, Path(value) if name == "root" else value)

    return keep


def _keep_url(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        from graviton.assembly.server_address import check_address

        try:
            check_address(value)
        except ConfigError as error:  # the address is not repeated: somebody may have put a password into it
            raise BadArgument(f"--url: {error.message}", operation="configure", hint=error.hint) from error
        context.ensure_object(Call).url = value


def _keep_lock_wait(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        from graviton.assembly.settings import parse_lock_wait

        context.ensure_object(Call).lock_wait = parsed("--lock-wait", parse_lock_wait, value)


_OF_CALL = ("root", "debug")
"""What is kept in the `Call` itself; the rest is about its output."""

_COMMON = (
    click.option(
        "--root",
        type=PathText(),
        metavar="DIR",
        expose_value=False,
        callback=_set("root"),
        help="The store's folder, in place of GRAVITON_FS_ROOT (./.graviton).",
    ),
    click.option(
        "--url",
        metavar="URL",
        expose_value=False,
        callback=_keep_url,
        help="A server that has the store, in place of GRAVITON_URL.",
    ),
    click.option(
        "--lock-wait",
        metavar="SECONDS",
        expose_value=False,
        callback=_keep_lock_wait,
        help="Wait so long for another process that has RocksDB's metadata (GRAVITON_LOCK_WAIT, 0).",
    ),
    click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set("json"),
        help="One JSON object per line, errors too.",
    ),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set("quiet"),
        help="No notes, warnings or progress bars.",
    ),
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set("verbose"),
        help="More notes.",
    ),
    click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set("debug"),
        help="A traceback with every error.",
    ),
)


def offer_ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """`shell_complete` of an argument that is an id."""
    from graviton.cli.complete_ids import complete_ids

    return list(complete_ids(context, parameter, incomplete))


def offer_chunkers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """`shell_complete` of --chunker: the presets. Of specs there are too many."""
    from graviton.core.chunking.spec import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def offer_hashes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """`shell_complete` of --hash."""
    from graviton.core.hashing import HashAlgo

    return [algo.value for algo in HashAlgo if algo.value.startswith(incomplete)]


def parsed(name: str, parse: Callable[[str], _T], text: str) -> _T:
    """`parse(text)`; what is malformed in it is wrong usage of the option or argument `name`."""
    try:
        return parse(text)
    except InvalidInput as error:
        raise BadArgument(
            f"{name}: {error.message}", operation=error.operation, subject=text, hint=error.hint
        ) from error
