"""Completion in bash of words with colons, which ids and chunker specs are.

For bash a colon ends a word (COMP_WORDBREAKS): `blake3:af13` arrives as three, and what is offered takes the place of
the last one only. So the three are joined again, and what was typed up to the last colon is left out of what is
offered. (`__ltrim_colon_completions` of bash-completion does the same in shell.) Where somebody took the colon out of
COMP_WORDBREAKS, words arrive whole and are offered whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from click.shell_completion import BashComplete, CompletionItem, split_arg_string

__all__ = ["ColonBash", "join_words"]


def join_words(words: Sequence[str]) -> list[str]:
    """The words as they were typed, an empty one is a new one; without the `=` between an option and its value, which
    click takes for the value unless it is the last."""
    joined: list[str] = []
    after_colon = False
    for at, word in enumerate(words, 1):
        if word == "=" and at < len(words) and joined and joined[-1].startswith("--"):
            continue
        is_colon = bool(word) and not word.strip(":")
        if joined and word and (is_colon or after_colon):
            joined[-1] += word
        else:
            joined.append(word)
        after_colon = is_colon
    return joined


class ColonBash(BashComplete):
    """Completion in bash; click finds it by its name, once it is registered."""

    _kept = ""
    """What is typed already and bash does not replace."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """What stands before the cursor, and the word at it."""
        at = int(os.environ["COMP_CWORD"])
        words = split_arg_string(os.environ["COMP_WORDS"])[1 : at + 1]
        words += [""] * (at - len(words))
        *args, incomplete = join_words(words) or [""]
        if incomplete != (words or [""])[-1]:
            self._kept = incomplete[: incomplete.rfind(":") + 1]
        return args, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """One line for the script."""
        shown: Any = item.value
        if self._kept and isinstance(shown, str) and item.type == "plain":
            shown = shown.removeprefix(self._kept)
        return f"{item.type},{shown}"
