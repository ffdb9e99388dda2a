"""The description describes what is there: every route, and what each answers."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from graviton.server.http.app import ROUTES
from graviton.server.http.errors import KINDS
from graviton.server.http.openapi.document import document
from graviton.server.http.openapi.page import CONTENT_SECURITY_POLICY, page
from graviton.server.http.openapi.parts import EXAMPLE_ID
from tests.server.serving import Served

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()

METHODS = {"get", "head", "post", "put", "patch", "delete"}


def described() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): operation
        for path, item in document()["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def routes() -> dict[tuple[str, str], Any]:
    return {
        (method.lower(), re.sub(r":\w+}", "}", path)): handler
        for handler in ROUTES
        for path in handler.paths
        for method in handler.http_methods
    }


def test_every_route_is_described_and_nothing_else() -> None:
    assert described().keys() == routes().keys()


@pytest.mark.parametrize("key", sorted(routes()), ids=" ".join)
def test_every_parameter_of_the_query_is_described(key: tuple[str, str]) -> None:
    told = {one["name"] for one in described()[key].get("parameters", ()) if one["in"] == "query"}
    taken = set(inspect.signature(routes()[key].fn).parameters) - {"context", "request"}
    assert told == taken - set(re.findall(r"{(\w+)}", key[1]))


@pytest.mark.parametrize("key", sorted(described()), ids=" ".join)
def test_every_route_has_an_example(key: tuple[str, str]) -> None:
    operation = described()[key]
    [sample] = operation["x-codeSamples"]
    assert sample["source"].startswith("curl ")
    assert "$URL/" in sample["source"]
    assert operation["summary"]
    assert operation["description"]
    for answer in operation["responses"].values():
        assert answer.get("description") or "$ref" in answer


def test_every_problem_that_is_named_is_there() -> None:
    text = json.dumps(document())
    found = set(re.findall(r"#/components/responses/Problem(\d+)", text))
    assert found <= {str(kind.status) for kind in KINDS.values()}
    for reference in set(re.findall(r'"#/components/(\w+)/(\w+)"', text)):
        assert reference[1] in document()["components"][reference[0]]


def test_the_page_needs_nothing_and_runs_nothing(server: Served) -> None:
    answer = server.request("GET", "/api/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    text = answer.body.decode()
    assert text == page(document())
    assert not re.search(r"<script|<img|<link|<iframe|url\(|@import|\bon\w+=|javascript:", text, re.IGNORECASE)
    for target in re.findall(r"""(?:href|src)=['"]?([^'" >]+)""", text):
        assert target.startswith(("#", "/api/")), target
        assert not target.startswith("#") or f"id='{target[1:]}'" in text, target
    for method, path in described():
        assert f"<code>{method.upper()} {path}</code>" in text
    assert server.request("GET", "/api/openapi.json").json == document()


_EXCLUDED = {
    "missing_required_header",  # headers are optional here, all of them
    "unsupported_method",  # tested in test_blobs; it takes a request per method and example
    "positive_data_acceptance",  # what fits the schema may still not be there, or be no hash that exists
    "ensure_resource_availability",
    "use_after_free",
    "ignored_auth",  # tested with a token in test_stopping
}

SCHEMA = schemathesis.openapi.from_dict(document())


def checks() -> list[Any]:
    return [check for check in CHECKS.get_all() if check.__name__ not in _EXCLUDED]


@pytest.mark.parametrize("key", sorted(key for key in described() if "{blob_id}" in key[1]), ids=" ".join)
def test_what_is_answered_about_a_blob_that_is_there_is_what_is_described(server: Served, key: tuple[str, str]) -> None:
    assert server.put(b"hello") == EXAMPLE_ID
    method, path = key
    case = SCHEMA[path][method.upper()].Case(path_parameters={"blob_id": EXAMPLE_ID})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        response = case.call(base_url=server.url)
        case.validate_response(response, checks=checks())
    assert response.status_code in (200, 204)


@pytest.mark.parametrize("key", sorted(described().keys() - {("get", "/api/events")}), ids=" ".join)
def test_what_is_answered_is_what_is_described(server: Served, key: tuple[str, str]) -> None:
    method, path = key

    @given(case=SCHEMA[path][method.upper()].as_strategy())
    @settings(
        max_examples=12, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None, database=None
    )
    def check(case: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.call_and_validate(base_url=server.url, checks=checks())

    check()
