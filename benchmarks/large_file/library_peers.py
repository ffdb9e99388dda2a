"""A library peer as a command: `library_peers.py MODULE put STORE FILE` or `... get STORE FILE`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path


def disk_objectstore(action: str, store: Path, file: Path) -> None:
    """One loose object; its key is kept beside the container."""
    from disk_objectstore import Container

    note = store.with_suffix(".key")
    with Container(store) as container:
        if action == "put":
            container.init_container()
            with file.open("rb") as source:
                note.write_text(json.dumps(container.add_streamed_object(source)))
            return
        with container.get_object_stream(json.loads(note.read_text())) as stream, file.open("wb") as target:
            shutil.copyfileobj(stream, target, 1024 * 1024)


def chunkstore(action: str, store: Path, file: Path) -> None:
    """Content-defined chunks. The library wants the whole file as one bytes object."""
    from chunkstore import ChunkStore, FilesystemBackend

    opened = ChunkStore.open(FilesystemBackend(store))
    if action == "put":
        opened.ingest_cdc("one", file.read_bytes())
    else:
        opened.read_to_path("one", file)


if __name__ == "__main__":
    module, wanted, place, path = sys.argv[1:]
    {"disk_objectstore": disk_objectstore, "chunkstore": chunkstore}[module](wanted, Path(place), Path(path))
