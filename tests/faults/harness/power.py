"""Power loss on paper: what a disk may hold when the power goes at any point of a logged run.

The model. A file's bytes are durable up to its last fsync; what was written later may be there or not, write by write.
The names of a folder are durable up to the last fsync of the folder; what happened to them later may be there or not,
but in order (a journal). Three images are made of each point:
  `least`   only what was asked for: file bytes and folder names of the last fsyncs;
  `names`   all names and sizes, but only synced bytes, zeros elsewhere: a journal that is ahead of the data;
  `mixed`   a random one in between, by a seed.
A sync that fails makes nothing durable, and what it was about never becomes durable by a later one: the system calls
those pages clean although the disk has not got them. Reads still see them, until they are written again.
Stricter than ext4 or xfs in one way (they often make more durable than was asked for), and blind in others: no torn
sectors within one write, no disks that lie about a flush, and mapped memory is not seen (the -shm file, which SQLite
rebuilds).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple


class Loss(Enum):
    """Which image is made."""

    LEAST = "least"
    NAMES = "names"
    MIXED = "mixed"


class Call(NamedTuple):
    """One logged call."""

    kind: str
    one: str
    two: str
    data: bytes = b""


def read_log(path: Path) -> Iterator[Call]:
    """The calls of a log, in order."""
    with open(path, "rb") as file:
        while line := file.readline():
            kind, one, two = line.decode().rstrip("\n").split("\t")
            data = file.read(int(two.split()[1])) if kind == "data" else b""
            yield Call(kind, one, two, data)


class _File:
    """A file's bytes as they are, as they are durable, and what was done in between."""

    def __init__(self, data: bytes = b"") -> None:
        self.synced = data
        self.now = bytearray(data)
        self.since: list[tuple[int, bytes] | int] = []

    def write(self, at: int, data: bytes) -> None:
        self.since.append((at, data))
        _apply(self.now, (at, data))

    def resize(self, size: int) -> None:
        self.since.append(size)
        _apply(self.now, size)

    def sync(self) -> None:
        durable = bytearray(self.synced)  # not `now`: some of that may be lost
        for step in self.since:
            _apply(durable, step)
        self.synced, self.since = bytes(durable), []

    def lose(self) -> None:
        """A sync failed: bytes written since the last one never get to the disk; sizes are a matter of the journal."""
        self.since = [step for step in self.since if isinstance(step, int)]

    def image(self, loss: Loss, chance: random.Random) -> bytes:
        if loss is Loss.LEAST:
            return self.synced
        if loss is Loss.NAMES:
            return self.synced[: len(self.now)].ljust(len(self.now), b"\0")
        made = bytearray(self.synced)
        for step in self.since:
            if chance.random() < 0.5:
                _apply(made, step)
        return bytes(made)


def _apply(data: bytearray, step: tuple[int, bytes] | int) -> None:
    if isinstance(step, int):
        del data[step:]
        data.extend(bytes(step - len(data)))
        return
    at, piece = step
    if len(data) < at:
        data.extend(bytes(at - len(data)))
    data[at : at + len(piece)] = piece


class _Folder:
    """The names of a folder: as they are, as they are durable, and the states in between."""

    def __init__(self) -> None:
        self.now: dict[str, _File | _Folder] = {}
        self.states: list[dict[str, _File | _Folder]] = [{}]
        """The durable one first, then one per change."""

    def change(self, name: str, what: _File | _Folder | None) -> None:
        if what is None:
            self.now.pop(name, None)
        else:
            self.now[name] = what
        self.states.append(dict(self.now))

    def sync(self) -> None:
        self.states = [dict(self.now)]

    def image(self, loss: Loss, chance: random.Random) -> dict[str, _File | _Folder]:
        if loss is Loss.LEAST:
            return self.states[0]
        return self.states[-1] if loss is Loss.NAMES else chance.choice(self.states)


class Disk:
    """The model of everything below one folder. Begins with what lies there, all of it durable."""

    def __init__(self, top: Path) -> None:
        self._top = str(top)
        self._files: dict[str, _File] = {}
        self._root = self._load(top)

    def _load(self, path: Path) -> _Folder:
        folder = _Folder()
        for entry in path.iterdir():
            if entry.is_dir():
                folder.now[entry.name] = self._load(entry)
            else:
                folder.now[entry.name] = self._files[str(entry.stat().st_ino)] = _File(entry.read_bytes())
        folder.sync()
        return folder

    def apply(self, call: Call) -> None:
        """One call more has happened."""
        match call.kind:
            case "create":
                self._files[call.one] = _File()
                self._name(call.two, self._files[call.one])
            case "data":
                self._files[call.one].write(int(call.two.split()[0]), call.data)
            case "size":
                self._files[call.one].resize(int(call.two))
            case "lost" if call.one == "folder":
                pass  # its names wait for the next sync
            case "lost":
                self._files[call.one].lose()
            case "sync" if call.one == "folder":
                self._folder(call.two).sync()
            case "sync":
                self._files[call.one].sync()
            case "syncall":
                self._sync_all(self._root)
            case "mkdir":
                self._name(call.one, _Folder())
            case "unlink":
                self._name(call.one, None)
            case "link":
                self._name(call.two, self._find(call.one))
            case "rename":
                self._rename(call.one, call.two)
            case "note":
                pass
            case _:
                raise AssertionError(f"an unknown call: {call}")

    def _rename(self, old: str, new: str) -> None:
        moved = self._find(old)
        self._name(new, moved)
        self._name(old, None)

    def _sync_all(self, folder: _Folder) -> None:
        for file in self._files.values():
            file.sync()
        folder.sync()
        for one in folder.now.values():
            if isinstance(one, _Folder):
                self._sync_all(one)

    def _folder(self, path: str) -> _Folder:
        folder: _File | _Folder = self._root
        for name in path.removeprefix(self._top).strip("/").split("/"):
            if name:
                assert isinstance(folder, _Folder)
                folder = folder.now[name]
        assert isinstance(folder, _Folder)
        return folder

    def _find(self, path: str) -> _File | _Folder:
        folder, name = os.path.split(path)
        return self._folder(folder).now[name]

    def _name(self, path: str, what: _File | _Folder | None) -> None:
        folder, name = os.path.split(path)
        self._folder(folder).change(name, what)

    def write_image(self, target: Path, loss: Loss, seed: int) -> None:
        """Make in `target` what the disk may hold after the power went now."""
        _write(self._root, target, loss, random.Random(seed))


def _write(folder: _Folder, target: Path, loss: Loss, chance: random.Random) -> None:
    target.mkdir(mode=0o700)
    for name, what in folder.image(loss, chance).items():
        if isinstance(what, _Folder):
            _write(what, target / name, loss, chance)
        elif not name.endswith("-shm"):  # written through mapped memory, which is not logged
            (target / name).write_bytes(what.image(loss, chance))
