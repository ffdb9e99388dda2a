"""How much a store may keep, how fast it takes and gives bytes, and where bytes wait: GRAVITON_QUOTA_* and others."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from graviton.assembly.environment import Reader, parse_path, parse_size
from graviton.constraints.quota_limits import QuotaLimits
from graviton.constraints.throttle import divided
from graviton.core.limits import MAX_SIZE
from graviton.errors import InvalidInput

__all__ = ["DEFAULT_SPILL_BYTES", "LimitSettings", "limit_settings"]

DEFAULT_SPILL_BYTES = 1024**3
"""Of what waits on disk: some hundred bodies whose digests are looked at before anything of them is stored."""

SPILL_MEMORY_BYTES = 1024 * 1024
"""Of one body that waits: 64 of them take half of the default budget, and most of those that do are smaller."""


class LimitSettings(NamedTuple):
    """None stands for no limit."""

    quota: QuotaLimits = QuotaLimits()
    upload_rate: int | None = None
    """Bytes per second, of all puts of this process."""
    download_rate: int | None = None
    """The same of all gets."""
    max_blob_bytes: int | None = None
    """The largest blob that is taken; no variable says it for every program, a server has one of its own."""
    spill_root: Path | None = None
    """Absolute; None for `spill` in the root of the store."""
    spill_bytes: int = DEFAULT_SPILL_BYTES
    """What may wait on disk in this process."""

    @property
    def concern_stores(self) -> bool:
        """Whether a store has anything to ask for."""
        limits = self.upload_rate, self.download_rate, self.max_blob_bytes
        return self.quota.is_any or any(limit is not None for limit in limits)

    def divided(self, processes: int) -> LimitSettings:
        """The share of one of several processes that serve one store. A quota is not divided: it counts for all."""
        return self._replace(
            upload_rate=None if self.upload_rate is None else divided(self.upload_rate, processes),
            download_rate=None if self.download_rate is None else divided(self.download_rate, processes),
            spill_bytes=divided(self.spill_bytes, processes),
        )


def limit_settings(get: Reader) -> LimitSettings:
    """From environment variables. Raises ConfigError naming the one that is wrong."""
    return LimitSettings(
        quota=QuotaLimits(
            bytes=get.value("GRAVITON_QUOTA_BYTES", _size, None),
            blobs=get.value("GRAVITON_QUOTA_BLOBS", _count, None),
            holder_bytes=get.value("GRAVITON_QUOTA_HOLDER_BYTES", _size, None),
            holder_blobs=get.value("GRAVITON_QUOTA_HOLDER_BLOBS", _count, None),
        ),
        upload_rate=get.value("GRAVITON_UPLOAD_RATE", _at_least_one, None),
        download_rate=get.value("GRAVITON_DOWNLOAD_RATE", _at_least_one, None),
        spill_root=get.value("GRAVITON_SPILL_ROOT", _folder, None),
        spill_bytes=get.value("GRAVITON_SPILL_BYTES", _at_least_one, DEFAULT_SPILL_BYTES),
    )


def _size(text: str) -> int:
    size = parse_size(text)
    if size > MAX_SIZE:
        raise InvalidInput(f"a size is at most {MAX_SIZE} bytes")
    return size


def _at_least_one(text: str) -> int:
    size = _size(text)
    if size < 1:
        raise InvalidInput("this is at least 1 byte")
    return size


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidInput(f"{text[:40]!r} is not a number of blobs", hint="Write digits.")
    return int(text)


def _folder(text: str) -> Path:
    return parse_path(text).absolute()
