"""`make_bucket`: whose bucket it is and where it is, told apart from each other and from a server in trouble."""

from __future__ import annotations

import pytest

from graviton.backends.objectstore.bucket import make_bucket
from graviton.errors import ConfigError, GravitonError, PermissionDenied, Unavailable
from tests.unit.objectstore.canned import answer, driver_of, serving, settings

pytestmark = pytest.mark.s3

ELSEWHERE = {"x_amz_bucket_region": "eu-central-1"}
OURS, TAKEN = answer(409, "BucketAlreadyOwnedByYou"), answer(409, "BucketAlreadyExists")


@pytest.mark.parametrize(
    ("replies", "kind", "says"),
    [
        ([answer(301, **ELSEWHERE)], ConfigError, "eu-central-1"),
        ([answer(301, **ELSEWHERE)], ConfigError, "GRAVITON_S3_REGION"),
        ([answer(400, **ELSEWHERE)], ConfigError, "GRAVITON_S3_REGION"),
        ([answer(400)], ConfigError, "GRAVITON_S3_REGION"),
        ([answer(404), OURS, answer(400)], ConfigError, "GRAVITON_S3_REGION"),
        ([answer(404), OURS, answer(503)], Unavailable, "503"),
        ([answer(404), TAKEN, answer(403)], ConfigError, "somebody else's"),
        ([answer(404), answer(403, "AccessDenied")], PermissionDenied, "AccessDenied"),
        ([answer(503)], Unavailable, "503"),
    ],
)
async def test_what_is_wrong_with_a_bucket(replies: list[bytes], kind: type[GravitonError], says: str) -> None:
    async with serving(*replies) as endpoint:
        config = settings(endpoint)
        with pytest.raises(kind) as told:
            await make_bucket(config, driver_of(config).requests)
        assert says in f"{told.value} {told.value.hint}"
        assert says == "somebody else's" or "somebody else's" not in str(told.value)


@pytest.mark.parametrize(
    ("replies", "made"),
    [
        ([answer(200)], False),
        ([answer(403)], False),
        ([answer(404), answer(200)], True),
        ([answer(404), OURS, answer(200)], False),
    ],
)
async def test_bucket_is_made_unless_it_is_there(replies: list[bytes], made: bool) -> None:
    async with serving(*replies) as endpoint:
        config = settings(endpoint, region="eu-west-1")
        assert await make_bucket(config, driver_of(config).requests) is made
