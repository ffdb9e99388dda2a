from __future__ import annotations

import json

import pytest

import graviton.errors
import graviton.server.http.errors as ours
from graviton.errors import GravitonError, Retry
from graviton.server.http.errors import KINDS, MethodNotAllowed, UnsatisfiableRange, answer, kind_of

SECRET = "/srv/private/path"


def every_class() -> list[type[GravitonError]]:
    found = {
        one
        for module in (graviton.errors, ours)
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, GravitonError)
    }
    return sorted(found, key=lambda one: one.__name__)


def made(kind: type[GravitonError]) -> GravitonError:
    if kind is UnsatisfiableRange:
        return UnsatisfiableRange(5)
    if kind is MethodNotAllowed:
        return MethodNotAllowed(SECRET, subject=SECRET, allow="GET")
    return kind(SECRET, subject=SECRET, hint=SECRET)


@pytest.mark.parametrize("kind", every_class())
def test_every_class_has_a_status_and_a_document(kind: type[GravitonError]) -> None:
    assert any(base in KINDS for base in kind.__mro__[:2]), "named itself, or by the class it specialises"
    told = answer(made(kind), "0" * 32)
    assert 400 <= told.status < 600
    problem = json.loads(told.body)
    assert problem["status"] == told.status
    assert problem["error"] == kind.code
    assert problem["trace_id"] == "0" * 32
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"] == problem["message"]
    assert (b"content-type", b"application/problem+json") in told.headers
    retry = dict(told.headers).get(b"retry-after")
    assert (retry is not None) == (told.status in (429, 503))


@pytest.mark.parametrize("kind", every_class())
def test_nothing_of_our_own_side_is_told(kind: type[GravitonError]) -> None:
    """A 5xx, and what this process may not do, is about paths and addresses in here."""
    told = answer(made(kind), "0" * 32)
    hides = told.status >= 500 or kind in (graviton.errors.PermissionDenied, graviton.errors.Retired)
    assert (SECRET.encode() not in told.body) or not hides
    assert bool(kind_of(made(kind)).sentence) == hides


def test_every_backends_own_class_is_answered_as_what_it_is() -> None:
    class LocalQuota(graviton.errors.StorageFull):
        pass

    assert answer(LocalQuota("x"), "0").status == 507


def test_errors_that_may_pass_say_when_to_come_back() -> None:
    error = graviton.errors.TooManyRequests("x", retry=Retry.TEMPORARY)
    error.retry_after_seconds = 2.5  # type: ignore[attr-defined]
    assert dict(answer(error, "0").headers)[b"retry-after"] == b"3"


def test_methods_that_are_possible_are_named() -> None:
    assert dict(answer(MethodNotAllowed("x", allow="GET, HEAD"), "0").headers)[b"allow"] == b"GET, HEAD"
