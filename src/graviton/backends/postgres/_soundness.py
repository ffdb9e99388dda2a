"""Whether manifests that a commit would merge into can be relied on; why: graviton.metadata.manifest_checks."""

from __future__ import annotations

from collections.abc import Sequence

from graviton.backends.postgres._keys import KEY_ARRAYS, block_of, columns, in_order
from graviton.backends.postgres._scripts import Row, Script, Statement
from graviton.core.manifests import ManifestPage, PageChain, is_sealed
from graviton.errors import IntegrityError
from graviton.metadata.manifest_checks import Answers, Suspect, is_complete, unanswered
from graviton.metadata.page_reads import READ_PAGES
from graviton.ports.block_index import BlockState

__all__ = ["PAGES_AFTER", "check", "sound_ones"]

PAGES_AFTER = """
SELECT end_offset, data FROM pages WHERE owner_id = %(owner)b AND end_offset > %(after)b
ORDER BY end_offset LIMIT %(limit)b
"""

_STORED = f"""
SELECT count(*) FROM {KEY_ARRAYS} AS k(algo, digest, size)
CROSS JOIN {block_of("(SELECT domain_id FROM owners WHERE id = %(owner)b)")} AS b
WHERE b.state = {BlockState.STORED.value}
"""


def sound_ones(suspects: Sequence[Suspect], answers: Answers) -> Script[set[tuple[int, bool]]]:
    """The questions whose answer is yes. Raises UncheckedManifestsError."""
    yes = {one.question for one in suspects if answers.get(one.question)}
    for one in unanswered(suspects, answers):
        if (yield from check(one)):
            yes.add(one.question)
    return yes


def check(suspect: Suspect) -> Script[bool]:
    """The answer for a manifest of any size, a few pages at a time."""
    chain = PageChain(suspect.record.key.algo)
    after = 0
    while chain.pages < suspect.record.page_count:
        values = {"owner": suspect.record.owner, "after": after, "limit": READ_PAGES}
        (result,) = yield [Statement(PAGES_AFTER, values)]
        if not result.rows or not (yield from _are_sound(suspect, result.rows)):
            return False
        for _, data in result.rows:
            chain.add(data)
        after = result.rows[-1][0]
    return is_complete(chain, suspect.record)


def _are_sound(suspect: Suspect, rows: Sequence[Row]) -> Script[bool]:
    """Whether pages have their digests and, if that matters, their blocks."""
    blob = suspect.record.key
    if not suspect.with_blocks:
        return all(is_sealed(data, blob) for _, data in rows)
    try:
        keys = in_order(key for _, data in rows for key in ManifestPage.open(data, blob).keys)
    except IntegrityError:
        return False
    (result,) = yield [Statement(_STORED, {"owner": suspect.record.owner} | columns(keys))]
    return bool(result.rows[0][0] == len(keys))
