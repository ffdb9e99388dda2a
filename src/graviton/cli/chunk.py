"""`graviton chunk`: where a file would be cut. Needs no store."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

import click

from graviton.cli.call import Call
from graviton.cli.errors import from_os_error
from graviton.cli.options import WorksOn, command, offer_chunkers, parsed
from graviton.cli.progress import Tally, bar

if TYPE_CHECKING:
    from graviton.cli.output import Output
    from graviton.core.chunking import ChunkerSpec
    from graviton.services.cutting import CutSurvey

__all__ = ["chunk"]

_READ_BYTES = 1 << 20
_SHOWN_ON_TERMINAL = 20
"""Cuts listed on a terminal; a pipe or --json gets all of them."""
_BAR_CHARS = 40


@command(works_on=WorksOn.NOTHING)
@click.argument("file", metavar="FILE|-")
@click.option(
    "--chunker",
    "spec_text",
    metavar="SPEC|PRESET",
    shell_complete=offer_chunkers,
    help="How to cut; default as for a new store.",
)
def chunk(call: Call, file: str, spec_text: str | None) -> None:
    """Show where a file would be cut, and how large the pieces are.

    One line per cut (offset and size), then the distribution of the sizes. `-` reads standard input.
    """
    from graviton.assembly.wiring import kernel_for
    from graviton.core.chunking import DEFAULT_SPEC, ChunkerSpec
    from graviton.services.cutting import CutSurvey, cuts_of

    settings = call.settings()
    wanted = None if spec_text is None else parsed("--chunker", ChunkerSpec.parse, spec_text)
    spec = wanted or settings.chunker or DEFAULT_SPEC
    survey = CutSurvey(spec)
    limit = _SHOWN_ON_TERMINAL if sys.stdout is not None and sys.stdout.isatty() and not call.out.json else None
    label, tally = "standard input" if file == "-" else file, Tally()
    with closing(_pieces(file, tally)) as pieces, bar(call.out, label, tally.look) as tick:
        for length in cuts_of(kernel_for(settings).chunker(spec), pieces):
            if limit is None or survey.count < limit:
                call.out.result(f"{survey.size} {length}", offset=survey.size, size=length)
            survey.add(length)
            tick()
    if limit is not None and survey.count > limit:
        call.out.result(f"... and {survey.count - limit:,} more; a pipe or --json shows all")
    _sum_up(call.out, spec, survey)


def _pieces(file: str, tally: Tally) -> Generator[bytes, None, None]:
    try:
        with open(sys.stdin.fileno() if file == "-" else file, "rb", closefd=file != "-") as source:
            info = os.fstat(source.fileno())
            total = info.st_size if stat.S_ISREG(info.st_mode) else None
            while piece := source.read(_READ_BYTES):
                tally.at(tally.look().done + len(piece), total)
                yield piece
    except OSError as error:
        raise from_os_error(error, file, "cannot read") from error


def _sum_up(out: Output, spec: ChunkerSpec, survey: CutSurvey) -> None:
    from graviton.cli.units import counted, human_bytes

    buckets = survey.buckets()
    most = max((bucket.chunks for bucket in buckets), default=0)
    lines = [
        f"{spec.text}: {counted(survey.count, 'chunk')}, {counted(survey.size, 'byte')}",
        f"mean {survey.mean:,.0f}, min {survey.min:,}, max {survey.max:,}, forced by the limit {survey.forced:,}",
    ]
    for bucket in buckets:
        share = bucket.chunks / most
        name = f"{human_bytes(bucket.low)} -"
        lines.append(f"{name:>11} {'#' * round(share * _BAR_CHARS):<{_BAR_CHARS}} {bucket.chunks:,}")
    out.result(
        "\n".join(lines),
        summary="chunk",
        chunker=spec.text,
        size=survey.size,
        count=survey.count,
        mean=survey.mean,
        min=survey.min,
        max=survey.max,
        forced=survey.forced,
        histogram=[bucket._asdict() for bucket in buckets],
    )
