"""Blocks, objects and whole blobs in S3 and its relatives."""

from __future__ import annotations

from graviton.backends.objectstore.blobs import S3BlobStore
from graviton.backends.objectstore.blocks import ObjectBlockStore, S3BlockStore
from graviton.backends.objectstore.bucket import make_bucket
from graviton.backends.objectstore.cloud import cloud_block_store
from graviton.backends.objectstore.config import Addressing, Credentials, S3Config, S3Encryption, SseMode
from graviton.backends.objectstore.marker import ObjectMarkerStore
from graviton.backends.objectstore.objects import S3ImmutableObjectStore, S3MutableObjectStore
from graviton.backends.objectstore.reclaimer import ObjectBlockReclaimer

__all__ = [
    "Addressing",
    "Credentials",
    "ObjectBlockReclaimer",
    "ObjectBlockStore",
    "ObjectMarkerStore",
    "S3BlobStore",
    "S3BlockStore",
    "S3Config",
    "S3Encryption",
    "S3ImmutableObjectStore",
    "S3MutableObjectStore",
    "SseMode",
    "cloud_block_store",
    "make_bucket",
]
