"""The rows of uploads as decisions: each function is one transaction, and what it says is durable and final.

Every function here runs inside a transaction it is given and touches nothing else, so it may be run again. A writer
shows its token with every change; whoever took its place has written another one (docs/uploads.md).
"""

from __future__ import annotations

from typing import Any

from graviton import errors
from graviton.errors import Conflict, GravitonError, LimitExceeded, NotFound
from graviton.metadata.upload_rows import (
    ID_BYTES,
    UPLOAD_PAGES,
    UPLOAD_PARTS,
    UPLOADS,
    UploadRow,
    UploadState,
)
from graviton.ports.kv import ReadTransaction, Transaction, prefix_end
from graviton.services.uploads.values import UploadId

__all__ = [
    "Overtaken",
    "beyond",
    "change",
    "clear_bytes",
    "ended",
    "failure",
    "leave",
    "load",
    "load_all",
    "own",
    "receiving",
    "remove",
    "save",
    "touch",
]


class Overtaken(Conflict):
    """Another writer has taken this one's place. Nothing was changed, and nothing will be."""


def load(tx: ReadTransaction, id: UploadId) -> UploadRow:
    """The row of an upload that has not gone. Raises NotFound."""
    data = tx.get(UPLOADS, bytes.fromhex(id))
    row = None if data is None else UploadRow.decode(data)
    if row is None or row.state is UploadState.GONE:
        raise NotFound(
            f"there is no upload {id}",
            operation="upload",
            subject=id,
            hint="It was terminated, or has expired. Start a new one.",
        )
    return row


def load_all(tx: ReadTransaction, after: UploadId | None, limit: int) -> list[tuple[UploadId, bytes]]:
    """Up to `limit` rows, undecoded, those of uploads that are going included."""
    position = None if after is None else bytes.fromhex(after)
    return [(UploadId(key.hex()), data) for key, data in tx.scan(UPLOADS, b"", position, limit)]


def save(tx: Transaction, id: UploadId, row: UploadRow) -> UploadRow:
    """Write a row; itself."""
    tx.put(UPLOADS, bytes.fromhex(id), row.encode())
    return row


def change(tx: Transaction, id: UploadId, writer: str, now_ns: int, **fields: Any) -> UploadRow:
    """Change fields of the row for the writer that has the token `writer`, which is a sign of life; the row. Raises
    NotFound, Overtaken."""
    row = own(load(tx, id), id, writer)
    return save(tx, id, alive(row, now_ns)._replace(**fields))


def touch(tx: Transaction, id: UploadId, now_ns: int) -> UploadRow:
    """A sign of life of somebody who has no turn; the row. Raises NotFound."""
    return save(tx, id, alive(load(tx, id), now_ns))


def leave(tx: Transaction, id: UploadId, writer: str) -> None:
    """Take a writer's token out, if it is there still. Raises NotFound."""
    row = load(tx, id)
    if row.token == writer:
        save(tx, id, row._replace(token="", reach=0))


def alive(row: UploadRow, now_ns: int) -> UploadRow:
    """The row of an upload that has just given a sign of life."""
    return row._replace(expires_at_ns=now_ns + row.lifetime_ns, alive_at_ns=now_ns)


def own(row: UploadRow, id: UploadId, writer: str) -> UploadRow:
    """`row`, if the writer has its token. Raises Overtaken."""
    if row.token != writer:
        raise Overtaken(
            f"another request goes on with upload {id}",
            operation="upload",
            subject=id,
            hint="Ask for its offset, and go on there.",
        )
    return row


def ended(id: UploadId) -> Overtaken:
    """The error for a writer whose session is not open any more."""
    return Overtaken(
        f"another request goes on with upload {id}, or it has expired",
        operation="upload",
        subject=id,
        hint="Ask for its offset, and go on there.",
    )


def failure(row: UploadRow, id: UploadId) -> GravitonError | None:
    """What made an upload fail, as it was then."""
    if row.error is None:
        return None
    code, message, hint = row.error
    kinds = {getattr(errors, name).code: getattr(errors, name) for name in errors.__all__ if name != "Retry"}
    kind: type[GravitonError] = kinds.get(code, GravitonError)
    return kind(message, operation="upload", subject=id, hint=hint)


def receiving(row: UploadRow, id: UploadId) -> UploadRow:
    """`row` if the upload takes bytes. Raises what made it fail, and Conflict."""
    if row.state is UploadState.RECEIVING:
        return row
    error = failure(row, id)
    if error is not None:
        raise error
    raise Conflict(
        f"upload {id} is {row.state.value}, and takes no more bytes",
        operation="upload",
        subject=id,
        hint="Ask for its status.",
    )


def beyond(id: UploadId, length: int) -> LimitExceeded:
    """The error for bytes after the last one."""
    return LimitExceeded(
        f"upload {id} has {length} bytes, and these lie beyond",
        operation="upload",
        subject=id,
        hint="Was the file changed? Then start a new upload.",
    )


# The end.


def clear_bytes(tx: Transaction, id: UploadId) -> None:
    """Forget every part and page."""
    key = bytes.fromhex(id)
    assert len(key) == ID_BYTES
    for namespace in (UPLOAD_PARTS, UPLOAD_PAGES):
        tx.delete_range(namespace, key, prefix_end(key))


def remove(tx: Transaction, id: UploadId) -> None:
    """Forget an upload with everything about it."""
    clear_bytes(tx, id)
    tx.delete(UPLOADS, bytes.fromhex(id))
