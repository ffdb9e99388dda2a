"""Completing ids in a shell: bounded, and silent whatever happens."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from graviton.cli.call import Call

__all__ = ["complete_ids"]

MAX_OFFERED = 20

_SECONDS = 2.0
"""Somebody waits at a keyboard, and the server may be far away."""


def complete_ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Digests that begin with what was typed, with the blobs' names; whole ids where the algorithm was typed. A whole
    digest is as good as an id, and shorter."""
    call = context.find_object(Call) or Call()
    call.out.quiet = True
    try:
        import asyncio

        return asyncio.run(asyncio.wait_for(_offer(call, incomplete), _SECONDS))
    except Exception:  # noqa: BLE001 - somebody is in the middle of typing: no store, no completion, no message
        return []


async def _offer(call: Call, incomplete: str) -> list[CompletionItem]:
    from graviton.cli.ids import list_prefixes

    items: list[CompletionItem] = []
    async with call.any_store() as store:
        for prefix in list_prefixes(incomplete):
            async for found in store.list(prefix, limit=MAX_OFFERED - len(items)):
                text = found.key.hex if found.key.hex.startswith(incomplete) else found.key.text
                items.append(CompletionItem(text, help=found.attributes.file_name or f"{found.size} bytes"))
    return items
