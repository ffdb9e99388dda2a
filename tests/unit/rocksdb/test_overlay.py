"""The overlay of a transaction: newest values, in order, with a way back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graviton.backends.rocksdb._overlay import MAX_TRANSACTION_BYTES, Overlay, Table, merged
from graviton.errors import LimitExceeded

KEYS = st.sampled_from([b"a", b"a\xff", b"b", b"ba", b"\xff", b"\xff\xff", b"\x00"])
CHANGES = st.lists(
    st.tuples(KEYS, st.none() | st.binary(max_size=2)) | st.tuples(st.just(b""), KEYS, st.none() | KEYS), max_size=12
)
"""A key with its new value, or a range that is removed."""


def seen(stored: dict[bytes, bytes], overlay: Overlay, prefix: bytes, after: bytes | None) -> list[tuple[bytes, bytes]]:
    table = overlay.tables.get("n", Table())
    base = [(k, v) for k, v in sorted(stored.items()) if k.startswith(prefix) and (after is None or k > after)]
    base = [(k, v) for k, v in base if not table.hides(k)]
    return list(merged(iter(base), overlay.between("n", prefix, after)))


def apply(overlay: Overlay, model: dict[bytes, bytes], key: bytes, *change: bytes | None) -> None:
    if key:
        (value,) = change
        overlay.set("n", [(key, value)], len(key) + len(value or b""))
        model.pop(key, None)
        if value is not None:
            model[key] = value
    else:
        start, end = change
        assert start is not None
        overlay.clear("n", start, end)
        for gone in [k for k in model if k >= start and (end is None or k < end)]:
            del model[gone]


@given(st.dictionaries(KEYS, st.binary(max_size=2)), st.lists(st.tuples(CHANGES, st.booleans()), max_size=5), KEYS)
def test_scans_and_undoes_like_a_dict(
    stored: dict[bytes, bytes], transactions: list[tuple[list[tuple[Any, ...]], bool]], probe: bytes
) -> None:
    overlay, model = Overlay(), dict(stored)
    for changes, keep in transactions:
        overlay.begin()
        before, size = dict(model), overlay.size
        for change in changes:
            apply(overlay, model, *change)
            assert seen(stored, overlay, b"", None) == sorted(model.items())
        if not keep:
            overlay.undo()
            model = before
            assert overlay.size == size
        for prefix, after in ((b"", None), (probe[:1], None), (b"", probe), (probe[:1], probe)):
            expected = [
                (k, v) for k, v in sorted(model.items()) if k.startswith(prefix) and (after is None or k > after)
            ]
            assert seen(stored, overlay, prefix, after) == expected
    if not any(keep and changes for changes, keep in transactions):
        assert overlay.tables == {}


def test_a_transaction_is_bounded_and_a_group_is_not() -> None:
    overlay = Overlay()
    half = bytes(MAX_TRANSACTION_BYTES // 2)
    for n in range(4):
        overlay.begin()
        overlay.set("n", [(b"%d" % n, half)], len(half))
    with pytest.raises(LimitExceeded):
        overlay.set("n", [(b"more", half), (b"x", b"")], len(half) + 1)
    overlay.undo()
    assert sorted(overlay.tables["n"].values) == [b"0", b"1", b"2"]
