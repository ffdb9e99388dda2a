"""`graviton completion`: the completion scripts of shells."""

from __future__ import annotations

import click

from graviton.cli.call import Call
from graviton.cli.options import WorksOn, command

__all__ = ["completion"]

_INSTALL = """Put one of these into your shell's start-up file:

\b
  eval "$(graviton completion bash)"
  eval "$(graviton completion zsh)"
  graviton completion fish | source
"""


@command(works_on=WorksOn.NOTHING, epilog=_INSTALL)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(call: Call, shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from graviton.cli.app import cli

    found = get_completion_class(shell)
    assert found is not None
    # Not `source()`: for bash that starts bash to look at its version, and complains where there is none.
    script = found(cli, {}, "graviton", "_GRAVITON_COMPLETE")
    text = script.source_template % script.source_vars()
    call.out.result(text, shell=shell, script=text)
