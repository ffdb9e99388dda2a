"""Bytes as the backup reader wants them."""

from __future__ import annotations

import io
from collections.abc import Callable


def reader(data: bytes) -> Callable[[int], bytes]:
    return io.BytesIO(data).read
