"""Every metric there is, with its kind, labels, meaning and buckets: what registries, documents and dashboards go by.

How to add one: write it below, in its group, as `NAME = "graviton_…", counter("What it counts.", label="its values")`.
Units are in the name: bytes, seconds, or a plain count (`_total` for counters). A label has few values (a state, a
route's template, an error's code), never what a client chose (a path, an id, an address): each value is a series that
is kept for ever. Help texts are short, since the files of several workers repeat them for each series.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from typing import NamedTuple

__all__ = ["OPERATION_SECONDS", "REQUEST_SECONDS", "Across", "MetricKeys", "MetricKind", "MetricSpec"]

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets for requests over a network: a small GET takes 1 ms at best, and clients and proxies wait
60 s at most. Three per power of ten keep a quantile that is read between two bounds within a factor of 2.5; 10 ms,
50 ms, 100 ms and 1 s, which goals are written in, are bounds and therefore exact. All above is one more bucket."""

OPERATION_SECONDS = (0.0001, 0.00025, 0.0005, *REQUEST_SECONDS)
"""The same for what happens inside: a look-up in memory or SQLite takes 100 us, an fsync some milliseconds."""


class MetricKind(Enum):
    """What may be done with a metric."""

    COUNTER = "counter"
    """Only grows, from zero at the start of the process."""
    GAUGE = "gauge"
    """Has a current value."""
    HISTOGRAM = "histogram"
    """Observations, counted in buckets and summed up."""


class Across(Enum):
    """How gauges of several worker processes become one number. (Counters and histograms are added up.) Only living
    workers count. The values are prometheus-client's names for it."""

    SUM = "livesum"
    """Each worker has its own part."""
    MAX = "livemax"
    """All see the same, or one has it and the others have nothing."""
    LATEST = "livemostrecent"
    """All see the same, at different times: whoever looked last is right."""


class MetricSpec(NamedTuple):
    """What is known about a metric."""

    kind: MetricKind
    help: str
    """One or two sentences."""
    labels: Mapping[str, str]
    """Name of each label, and which values it has."""
    across: Across = Across.SUM
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, ascending; the last bucket, without bound, is not among them."""


def counter(help: str, **labels: str) -> MetricSpec:
    """The spec of a counter."""
    return MetricSpec(MetricKind.COUNTER, help, labels)


def gauge(help: str, across: Across = Across.SUM, **labels: str) -> MetricSpec:
    """The spec of a gauge."""
    return MetricSpec(MetricKind.GAUGE, help, labels, across)


def histogram(help: str, buckets: tuple[float, ...], **labels: str) -> MetricSpec:
    """The spec of a histogram."""
    return MetricSpec(MetricKind.HISTOGRAM, help, labels, buckets=buckets)


_BACKEND = "s3, gs, az, rocksdb, postgres"
_BACKEND_OPERATION = "the operation, as the backend calls it"
_CODE = "code of the error (docs/server.md)"
_CACHE_OUTCOME = "hit (from the cache), miss (fetched below), shared (with a read that was under way)"
_SEGMENT = "window (read less often than what it would have replaced), probation, protected"
_METHOD = "the request's method, or OTHER"
_ROUTE = "the route's template, as /api/blobs/{id}, or unknown; never the path"
_WAY = "upload, download"
_QUOTA = "used, reserved (by running uploads), limit"


class MetricKeys(StrEnum):
    """The name of a metric; `spec` is what is known about it."""

    spec: MetricSpec
    _value_: str

    def __new__(cls, name: str, spec: MetricSpec) -> MetricKeys:
        """A member; Python calls this for each line below."""
        key = str.__new__(cls, name)
        key._value_ = name
        key.spec = spec
        return key

    # Blobs and blocks.
    BYTES_INGESTED = "graviton_bytes_ingested_total", counter("Bytes of acknowledged puts.")
    BYTES_READ = "graviton_bytes_read_total", counter("Verified bytes handed out.")
    BLOCKS_INGESTED = (
        "graviton_blocks_ingested_total",
        counter("Blocks of acknowledged puts.", status="fresh (written), duplicate (there already)"),
    )
    BLOCKS_DAMAGED = "graviton_blocks_damaged_total", counter("Blocks found missing or wrong by a read.")
    BLOB_OPERATIONS = (
        "graviton_blob_operations_total",
        counter(
            "Operations on the store. A get that fails while its bytes go out is counted again, as failed.",
            operation="put, put_many, get, delete",
            outcome="ok, or code of the error",
        ),
    )
    BLOB_OPERATION_SECONDS = (
        "graviton_blob_operation_seconds",
        histogram(
            "Wall time of operations on the store; of a get until it can be read.",
            OPERATION_SECONDS,
            operation="put, put_many, get, delete",
        ),
    )

    # What lies below: databases and buckets.
    BACKEND_OPERATIONS = (
        "graviton_backend_operations_total",
        counter("Operations on a backend; of a bucket each try.", backend=_BACKEND, operation=_BACKEND_OPERATION),
    )
    BACKEND_OPERATION_SECONDS = (
        "graviton_backend_operation_seconds",
        histogram(
            "Wall time of operations on a backend.", OPERATION_SECONDS, backend=_BACKEND, operation=_BACKEND_OPERATION
        ),
    )
    BACKEND_FAILURES = (
        "graviton_backend_failures_total",
        counter("Operations on a backend that failed.", backend=_BACKEND, code=_CODE),
    )
    BACKEND_BYTES = (
        "graviton_backend_bytes_total",
        counter("Payload bytes of requests that were answered.", backend=_BACKEND, operation=_BACKEND_OPERATION),
    )
    BACKEND_IN_FLIGHT = (
        "graviton_backend_requests_in_flight",
        gauge("Requests that are not answered yet.", backend=_BACKEND),
    )
    BACKEND_RETRIES = (
        "graviton_backend_retries_total",
        counter("Tries that failed and were followed by another.", backend=_BACKEND, operation=_BACKEND_OPERATION),
    )
    BACKEND_CONNECTIONS = (
        "graviton_backend_connections",
        gauge("Connections of the pools.", backend=_BACKEND, state="open, in_use, waiting (requests for one)"),
    )

    # The cache of blocks.
    CACHE_READS = "graviton_cache_reads_total", counter("Blocks read through the cache.", outcome=_CACHE_OUTCOME)
    CACHE_READ_BYTES = (
        "graviton_cache_read_bytes_total",
        counter("Bytes of blocks read through the cache.", outcome=_CACHE_OUTCOME),
    )
    CACHE_FILLS = (
        "graviton_cache_fills_total",
        counter(
            "What became of blocks that were fetched.",
            outcome="stored, busy (too much waits to be written, or the disk hangs), failed, large (than the whole"
            " cache, or than what may wait)",
        ),
    )
    CACHE_EVICTIONS = "graviton_cache_evictions_total", counter("Entries that made room.", segment=_SEGMENT)
    CACHE_EVICTED_BYTES = (
        "graviton_cache_evicted_bytes_total",
        counter("Bytes of entries that made room.", segment=_SEGMENT),
    )
    CACHE_DAMAGED = (
        "graviton_cache_damaged_total",
        counter("Entries whose bytes were wrong, dropped and fetched again."),
    )
    CACHE_FAILURES = (
        "graviton_cache_failures_total",
        counter(
            "Failures of the cache's own disk; no reader failed.",
            operation="open, read, write, remove, index",
            code="code of the error, or timeout",
        ),
    )
    CACHE_BYTES = "graviton_cache_bytes", gauge("How full the cache is.", Across.MAX, kind="used, limit")
    CACHE_ENTRIES = "graviton_cache_entries", gauge("Blocks in the cache.", Across.MAX)
    CACHE_KEPT = (
        "graviton_cache_kept",
        gauge("1 if this server keeps the cache, 0 if another process does and this one only reads.", Across.MAX),
    )

    # Memory and queues of the process.
    MEMORY_BUDGET_BYTES = "graviton_memory_budget_bytes", gauge("The byte budget.", kind="total, used")
    QUEUE_DEPTH = (
        "graviton_queue_depth",
        gauge("Work accepted and not begun.", queue="memory (streams that wait for the byte budget)"),
    )

    # RocksDB.
    ROCKSDB_COMPACTIONS = "graviton_rocksdb_compactions_total", counter("Compactions that have ended.")
    ROCKSDB_COMPACTION_BYTES = (
        "graviton_rocksdb_compaction_bytes_total",
        counter("Bytes of files that compactions read and wrote.", direction="read, written"),
    )
    ROCKSDB_FLUSHED_BYTES = (
        "graviton_rocksdb_flushed_bytes_total",
        counter("Bytes of memtables written out as files."),
    )
    ROCKSDB_LOG_BYTES = "graviton_rocksdb_log_bytes_total", counter("Bytes written to write-ahead logs.")
    ROCKSDB_STALLED_SECONDS = (
        "graviton_rocksdb_stalled_seconds_total",
        counter("Time that writes waited because compaction was behind."),
    )
    ROCKSDB_RUNNING_COMPACTIONS = "graviton_rocksdb_running_compactions", gauge("Compactions that run now.")
    ROCKSDB_PENDING_COMPACTION_BYTES = (
        "graviton_rocksdb_pending_compaction_bytes",
        gauge("Bytes that compaction has to rewrite, as RocksDB estimates it."),
    )
    ROCKSDB_LEVEL_BYTES = "graviton_rocksdb_level_bytes", gauge("Bytes of files of a level.", level="0 to 6")
    ROCKSDB_MEMTABLE_BYTES = (
        "graviton_rocksdb_memtable_bytes",
        gauge("Memory of all memtables, with those that are being written out or that a read keeps."),
    )
    ROCKSDB_BLOCK_CACHE_BYTES = (
        "graviton_rocksdb_block_cache_bytes",
        gauge("Memory of RocksDB's block cache.", kind="used, pinned"),
    )
    ROCKSDB_WRITE_AMPLIFICATION = (
        "graviton_rocksdb_write_amplification",
        gauge("Bytes written to logs and files for each byte of changes, since the store was opened.", Across.MAX),
    )

    # The server.
    INFO = (
        "graviton_info",
        gauge(
            "1; the labels say what runs.",
            Across.MAX,
            version="of graviton",
            kernel="native, python",
            blob_backend="fs, s3, minio, gs, az, memory",
            metadata="sqlite, rocksdb, postgres, memory",
        ),
    )
    HTTP_REQUESTS = (
        "graviton_http_requests_total",
        counter(
            "Requests that ended.",
            method=_METHOD,
            route=_ROUTE,
            status="status of the answer, or of the error if none was sent",
        ),
    )
    HTTP_REQUEST_SECONDS = (
        "graviton_http_request_seconds",
        histogram(
            "From the head of a request to the last byte of its answer.", REQUEST_SECONDS, method=_METHOD, route=_ROUTE
        ),
    )
    HTTP_REQUEST_BYTES = "graviton_http_request_bytes_total", counter("Bytes of bodies that came.", route=_ROUTE)
    HTTP_RESPONSE_BYTES = "graviton_http_response_bytes_total", counter("Bytes of bodies that were sent.", route=_ROUTE)
    HTTP_IN_FLIGHT = "graviton_http_in_flight", gauge("Requests that run now.", kind="upload, download, other")
    HTTP_WAITING = "graviton_http_waiting", gauge("Requests that wait for a slot.", kind=_WAY)
    HTTP_EVENT_FOLLOWERS = "graviton_http_event_followers", gauge("Clients that follow the events.")
    LOG_LINES_LOST = (
        "graviton_log_lines_lost_total",
        counter(
            "Log lines that were not written.",
            reason="full (the target does not take them fast enough), failed (it cannot be written to)",
        ),
    )

    # Resumable uploads.
    UPLOADS_OPEN = "graviton_uploads_open", gauge("Resumable uploads that are not finished.", Across.LATEST)
    UPLOADS = (
        "graviton_uploads_total",
        counter("Resumable uploads, by what became of them.", event="created, done, failed, terminated, expired"),
    )
    UPLOAD_BYTES = (
        "graviton_upload_bytes_total",
        counter("Bytes that resumable uploads took."),
    )
    UPLOAD_TAKEOVERS = (
        "graviton_upload_takeovers_total",
        counter("Uploads that went on under a new session, because the last writer did not end in order."),
    )

    # Limits.
    SPILL_BYTES = "graviton_spill_bytes", gauge("Buffered bodies on disk.", kind="used, limit")
    QUOTA_BYTES = "graviton_quota_bytes", gauge("The quota of all holders together.", Across.LATEST, kind=_QUOTA)
    QUOTA_BLOBS = (
        "graviton_quota_blobs",
        gauge("The quota of all holders together, in blobs.", Across.LATEST, kind=_QUOTA),
    )
    THROTTLED_SECONDS = (
        "graviton_throttled_seconds_total",
        counter("Time that bytes waited because of a configured rate.", direction=_WAY),
    )
