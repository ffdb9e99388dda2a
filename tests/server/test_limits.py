"""Limits by configuration, as clients of a server meet them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.server.serving import Served


def quota(server: Served) -> dict[tuple[str, str], float]:
    """What `/metrics` says of the quota."""
    text = server.request("GET", "/metrics").body.decode()
    found = re.findall(r'^graviton_quota_(\w+)\{kind="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {(unit, kind): float(value) for unit, kind, value in found}


def test_a_quota_that_is_used_up_and_given_back(tmp_path: Path) -> None:
    with Served(tmp_path / "store", GRAVITON_QUOTA_BYTES="1000000", GRAVITON_QUOTA_BLOBS="2") as server:
        blob = server.put(os.urandom(600_000))
        assert quota(server) == {
            ("bytes", "used"): 600_000,
            ("bytes", "reserved"): 0,
            ("bytes", "limit"): 1_000_000,
            ("blobs", "used"): 1,
            ("blobs", "reserved"): 0,
            ("blobs", "limit"): 2,
        }
        refused = server.request("POST", "/api/blobs", os.urandom(600_000))
        assert (refused.status, refused.json["error"]) == (507, "storage_full")
        assert server.request("DELETE", f"/api/blobs/{blob}").status == 204
        assert quota(server)["bytes", "used"] == 0
        server.put(os.urandom(600_000))
        assert quota(server)["blobs", "used"] == 1


def test_requests_per_second_are_limited_but_for_who_asks_after_its_health(tmp_path: Path) -> None:
    with Served(tmp_path / "store", GRAVITON_HTTP_REQUEST_RATE="1") as server:
        answers = [server.request("GET", "/api/schema/nothing") for _ in range(40)]
        refused = [answer for answer in answers if answer.status == 429]
        assert refused
        assert {answer.status for answer in answers} <= {404, 429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert {server.request("GET", "/api/health").status for _ in range(20)} == {200}
