"""From the headers of a request to the plan of a put."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from graviton.core.attribute_text import ATTRIBUTES_FIELD, decode_attributes
from graviton.core.attribute_values import SIZE, digest_name
from graviton.core.attributes import AttributeValue, BinaryAttributes
from graviton.core.chunking.spec import ChunkerSpec
from graviton.core.clock import Clock
from graviton.core.hashing import HashAlgo
from graviton.core.keys import BlobKey
from graviton.core.policies import BlobWritePlan
from graviton.errors import InvalidInput
from graviton.server.http.asgi import Scope, header
from graviton.server.http.names import advertised_values

__all__ = ["EXPECTED_ID", "expected_id", "plan_of"]

_T = TypeVar("_T")

EXPECTED_ID = "x-graviton-expected-id"


def plan_of(scope: Scope, clock: Clock, domain: str = "", holder: str = "") -> BlobWritePlan:
    """What the headers ask for: attributes, hash and chunker, and the id that must come out, whose hash is then used
    unless another is asked for. Raises InvalidInput naming the header."""
    if header(scope, b"content-encoding") not in (None, "", "identity"):
        raise InvalidInput(
            "bodies are stored as they come, and not decoded",
            subject="content-encoding",
            hint="Leave Content-Encoding out; to keep compressed bytes as they are, say so in Content-Type.",
        )
    values: dict[str, AttributeValue] = {}
    attributes = _parsed(scope, ATTRIBUTES_FIELD.lower(), decode_attributes)
    if attributes is None:
        attributes = BinaryAttributes.EMPTY
        values |= advertised_values(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        )
    algo = _parsed(scope, "x-graviton-hash", HashAlgo.parse)
    chunker = _parsed(scope, "x-graviton-chunker", ChunkerSpec.parse)
    expected = expected_id(scope)
    if expected is not None:
        algo = algo or expected.algo
        if algo is not expected.algo:
            raise InvalidInput("X-Graviton-Expected-Id has another hash than X-Graviton-Hash", subject=EXPECTED_ID)
        values |= {SIZE: expected.size, digest_name(expected.algo): expected.digest}
    attributes = attributes.advertise(values, at_ns=clock.now_ns())
    return BlobWritePlan(attributes, chunker=chunker, hash=algo, domain=domain, holder=holder)


def expected_id(scope: Scope) -> BlobKey | None:
    """The id that must come out. Raises InvalidInput."""
    return _parsed(scope, EXPECTED_ID, BlobKey.parse)


def _parsed(scope: Scope, name: str, parse: Callable[[str], _T]) -> _T | None:
    text = header(scope, name.encode())
    if text is None:
        return None
    try:
        return parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error.message}", subject=name, hint=error.hint) from error
