"""Rows of resumable uploads. docs/uploads.md has the protocol."""

from __future__ import annotations

from enum import Enum

__all__ = ["UploadState"]


class UploadState(Enum):
    """State of an upload; the values are stored and shown."""

    RECEIVING = "receiving"
    """Takes bytes."""
    FINISHING = "finishing"
    """Every byte is there, and the blob is being put together."""
    DONE = "done"
    """The blob is visible."""
    FAILED = "failed"
    """It can never become the blob that was wished for; `error` says why."""
    GONE = "gone"
    """It was terminated or has expired, and is being removed. Nobody is shown it."""
