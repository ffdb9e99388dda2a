from __future__ import annotations

import pickle

from graviton.concurrency.calls import own_copy
from graviton.errors import Retry, TooManyRequests


def busy() -> TooManyRequests:
    return TooManyRequests(
        "busy", operation="put", subject="uploads", hint="Wait.", retry=Retry.EXHAUSTED, retry_after_seconds=2.5
    )


def test_every_field_goes_through_a_pickle() -> None:
    again = pickle.loads(pickle.dumps(busy()))
    assert type(again) is TooManyRequests
    assert vars(again) == vars(busy())


def test_a_copy_for_another_caller_has_every_field_and_no_notes() -> None:
    first = busy()
    first.add_note("seen by the first")
    copy = own_copy(first)
    assert copy is not first
    assert vars(copy) == vars(busy())
