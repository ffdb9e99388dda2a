"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["counted", "human_bytes", "human_rate"]


def human_bytes(count: float) -> str:
    """`1.5 MiB`: powers of 1024, three digits at most."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 100 else f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:,.0f} PiB"


def human_rate(count: float, seconds: float) -> str:
    """Bytes per second, in powers of 1000 as disks and networks have them: `1.25 GB/s`."""
    rate = count / seconds if seconds > 0 else 0.0
    for unit in ("B", "kB", "MB"):
        if rate < 1000:
            return f"{rate:.3g} {unit}/s"
        rate /= 1000
    return f"{rate:.3g} GB/s"


def counted(count: int, noun: str) -> str:
    """`1 blob`, `2,000 blobs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
