"""The laws of the object stores on S3: two servers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest
from botocore.awsrequest import AWSResponse

from graviton.backends.objectstore.objects import S3ImmutableObjectStore, S3MutableObjectStore
from graviton.core.locators import Locator
from graviton.ports.objects import ImmutableObjectStore, MutableObjectStore
from graviton.testing.conformance.mutable_objects import MutableObjectStoreContract
from graviton.testing.conformance.objects import ImmutableObjectStoreContract
from tests.s3_server import S3Server, default_server, moto_server

pytestmark = pytest.mark.s3


class _OnS3(ImmutableObjectStoreContract):
    backend = "s3"
    bucket = ""

    @staticmethod
    def server() -> S3Server:
        return moto_server()

    async def set_up(self) -> None:
        self.bucket = self.server().new_bucket()

    def locator(self, path: str) -> Locator:
        return Locator("s3", self.bucket, path)

    async def break_backend(self, store: ImmutableObjectStore) -> None:
        assert isinstance(store, S3ImmutableObjectStore)
        store.api._clients.clear()
        store.api.config = self.server().config(self.bucket, endpoint="http://127.0.0.1:9", retry_seconds=0)


class TestS3ImmutableObjectStore(_OnS3):
    implementation = S3ImmutableObjectStore

    def make_store(self) -> S3ImmutableObjectStore:
        return S3ImmutableObjectStore(self.server().config(self.bucket, retry_seconds=2))

    async def fill(self, store: ImmutableObjectStore, objects: Mapping[str, bytes]) -> None:
        writer = S3MutableObjectStore(self.server().config(self.bucket))
        for path, data in objects.items():
            await writer.put(self.locator(path), data)
        await writer.aclose()


class TestS3MutableObjectStore(_OnS3, MutableObjectStoreContract):
    implementation = S3MutableObjectStore
    put_time_error_ns = 2_000_000_000
    """It is the time of the answer, in whole seconds; to look could fail after all was done."""

    def make_store(self) -> S3MutableObjectStore:
        return S3MutableObjectStore(self.server().config(self.bucket, retry_seconds=2, part_bytes=5 * 1024 * 1024))

    async def temporary_files(self, store: MutableObjectStore) -> Sequence[str]:
        assert isinstance(store, S3MutableObjectStore)
        return [upload.key for upload in await store.api.uploads("", "uploads")]

    async def make_read_only(self, store: MutableObjectStore) -> None:
        """As a policy of the bucket does: neither server has any."""
        assert isinstance(store, S3MutableObjectStore)
        for method in ("PutObject", "DeleteObject"):
            store.api._opened().meta.events.register(f"before-send.s3.{method}", _denied)


class _Refusal:
    """The body of an answer."""

    def stream(self) -> Iterator[bytes]:
        yield b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"


def _denied(request: Any, **_: object) -> AWSResponse:
    return AWSResponse(request.url, 403, {}, _Refusal())


_FILES = "the server keeps objects as files, of which none can be beside what it continues"

_OF_RCLONE = {"test_long_paths_are_places_or_refused": "its file system takes no names of more than 255 bytes: a 500"}
_OF_MINIO = {"test_list_prefix_is_text_not_a_folder": "it refuses `..` in what a name may begin with, too"}


class TestS3MutableObjectStoreOnFiles(TestS3MutableObjectStore):
    """A server that knows no conditions."""

    some: ClassVar = {"b": b"b", "c/x": b"the object", "cc/y": b"y" * 5_000, "d/e/f": bytes(range(256)), "e": b""}
    in_order: ClassVar = ["A", "a!", "a-b", "a/b", "a0", "aa", "b", "ä", "ﾪ", "😀"]
    known_gaps: ClassVar = {
        "test_span_is_half_open_and_exact": _FILES,
        "test_span_past_the_end_is_not_satisfiable_before_get_returns": _FILES,
        "test_delete_says_whether_there_was_an_object": _FILES,
        "test_acknowledged_changes_are_there_after_reopening": _FILES,
    } | (_OF_MINIO if os.environ.get("GRAVITON_TEST_S3_URL") else _OF_RCLONE)

    @staticmethod
    def server() -> S3Server:
        return default_server()
