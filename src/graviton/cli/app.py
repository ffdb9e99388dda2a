"""The table of commands, and the group that loads the one that was asked for.

To add a command `frob`: write `cli/frob.py` and add a line to `COMMANDS`. The module defines `frob` with

    @command()
    @click.argument("ids", nargs=-1, required=True)
    async def frob(call: Call, ids: tuple[str, ...]) -> int | None:
        '''Frob blobs. (The help text; its first line is repeated in the table.)'''
        async with call.store() as store:
            await store.required()  # reading commands never create a store
            key = await resolve(store, ids[0])  # ids.py: full or shortened ids
            call.out.result(f"{key} frobbed", id=key.text, size=key.size)

`@command(works_on=WorksOn.ANY_STORE)` with `call.any_store()` works on a store behind a URL too.

Errors are raised as `GravitonError` and printed by `run`; a command that goes on after one prints it with
`call.out.error(error)` and returns 1 at the end. Print only through `call.out`. Modules import click, `graviton.errors`
and `graviton.cli.*` at the top and everything heavy inside functions, so that `--help` and completion stay fast.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import click

from graviton.cli.call import Call
from graviton.cli.errors import report
from graviton.cli.options import common_options

__all__ = ["COMMANDS", "cli", "run"]

COMMANDS = {
    "put": "Store files, folders or standard input.",
    "get": "Read a blob, or restore a tree.",
    "cat": "Write blobs to standard output.",
    "stat": "Show what is known about a blob.",
    "ls": "List blobs.",
    "rm": "Remove blobs.",
    "verify": "Read everything and check every digest.",
    "serve": "Run the HTTP server.",
    "stats": "Totals of the store and what deduplication saves.",
    "chunk": "Show where a file would be cut.",
    "store": "Make, adopt or check a store.",
    "meta": "Back up and restore the metadata.",
    "db": "Migrate the database of the metadata.",
    "doctor": "Check this installation and this store's surroundings.",
    "bench": "Measure this machine's own speed for this work.",
    "demo": "Store two states of real files and see what is saved.",
    "completion": "Print the completion script of a shell.",
}
"""Name and one line of help; the module is `graviton.cli.<name>`, the command its attribute of that name."""


_COMPLETION = "_GRAVITON_COMPLETE"
"""Set by the completion scripts of shells: nothing is run then, but what may follow is printed."""


class LazyGroup(click.Group):
    """Loads a command's module when the command is run or completed; the list of commands needs none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        found = getattr(importlib.import_module(f"graviton.cli.{cmd_name}"), cmd_name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without loading anything."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        from graviton._version import __version__

        click.echo(f"graviton {__version__}")
        context.exit()


@click.group(cls=LazyGroup, name="graviton", no_args_is_help=False, subcommand_metavar="COMMAND [ARGS]...")
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print the version."
)
@common_options
def cli() -> None:
    """Content-addressed storage: bytes in, deduplicated at content-defined boundaries, verified, out again."""


def run(args: Sequence[str]) -> int:
    """Run one command line and report how it went; the exit code."""
    call = Call()
    call.out.json = _asks_for_json(args)  # known before anything is parsed: usage errors obey it too
    call.debug = "--debug" in args
    call.show_warnings()
    if _COMPLETION in os.environ:
        from click.shell_completion import add_completion_class

        from graviton.cli.bash_words import ColonBash

        add_completion_class(ColonBash)
    try:
        outcome: Any = cli.main(
            args=list(args), prog_name="graviton", complete_var=_COMPLETION, standalone_mode=False, obj=call
        )
        call.out.flush()
    except SystemExit as error:  # click's completion ends the process itself
        return error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - the outermost place: whatever it is becomes one line and a code
        return report(error, call.out, call.debug)
    return outcome if isinstance(outcome, int) else 0


def _asks_for_json(args: Sequence[str]) -> bool:
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options
