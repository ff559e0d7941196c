"""Watch a folder of outputs while it is written: the kernel tells of every file that is touched.

A result must appear by a rename alone, whole, and stay as it is until another rename replaces it.
So a file that is created, or opened for writing and changed, under its final name is a finding in
itself, even if nobody looked while it was half-written; and what appears by a rename is read once
and must be whole.
"""

import csv
import ctypes
import gzip
import hashlib
import json
import os
import struct
import threading
from pathlib import Path

# linux/inotify.h
MODIFY, MOVED_TO, CREATE, OVERFLOW, IS_FOLDER = 0x2, 0x80, 0x100, 0x4000, 1 << 30
CLOSE_ON_EXEC, NON_BLOCKING = 0o2000000, 0o4000
EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
MERGED = (".tsv", ".json", ".html")  # of which a part of the participants is whole, too


def damage_of(path: Path, whole: dict[str, str], root: Path) -> str:
    """Say what is wrong with a file under its final name; nothing if it is whole.

    Tables, JSON and pages, to which several jobs add, must be complete in themselves; everything
    else must have the very bytes of the uninterrupted run.
    """
    content = path.read_bytes()
    name = str(path.relative_to(root))
    if path.suffix not in MERGED and name in whole:
        same = hashlib.sha256(content).hexdigest() == whole[name]
        return "" if same else f"{name}: other bytes than in an uninterrupted run"
    try:
        if path.name.endswith(".nii.gz"):
            gzip.decompress(content)
        elif path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".tsv":
            text = content.decode()
            widths = {len(row) for row in csv.reader(text.splitlines(), delimiter="\t")}
            if not text.endswith("\n") or len(widths) != 1:
                return f"{name}: a table cut short"
        elif path.suffix == ".png" and not content.endswith(b"IEND\xaeB`\x82"):
            return f"{name}: a picture cut short"
        elif path.suffix == ".html" and not content.rstrip().endswith(b"</html>"):
            return f"{name}: a page cut short"
    except (OSError, EOFError, ValueError) as error:
        return f"{name}: {error}"
    return ""


def damages(out: Path, whole: dict[str, str]) -> list[str]:
    """Check every file of a folder of outputs; run logs and staged parts are not results."""
    found = []
    for path in sorted(out.rglob("*")):
        if "logs" not in path.relative_to(out).parts and path.is_file():
            try:
                found.append(damage_of(path, whole, out))
            except FileNotFoundError:
                continue
    return [damage for damage in found if damage]


class Watcher:
    """A thread that notes in ``seen`` each file that was not whole; ``looks`` counts the files."""

    def __init__(self, out: Path, whole: dict[str, str]) -> None:
        self.seen: set[str] = set()
        self.looks = 0
        self._out, self._whole = out, whole
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._handle = self._libc.inotify_init1(CLOSE_ON_EXEC | NON_BLOCKING)
        self._folders: dict[int, Path] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watcher":
        self._out.mkdir(parents=True, exist_ok=True)
        self._add(self._out)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._handle)

    def _add(self, folder: Path) -> None:
        """Watch a folder and those inside it; what is in it already is looked at."""
        if "logs" in folder.relative_to(self._out).parts:
            return
        mask = MODIFY | MOVED_TO | CREATE
        watch = self._libc.inotify_add_watch(self._handle, os.fsencode(folder), mask)
        if watch < 0:
            if ctypes.get_errno() == 2:  # ENOENT: gone already
                return
            raise OSError(ctypes.get_errno(), f"inotify: {folder}")
        self._folders[watch] = folder
        for entry in [*os.scandir(folder)]:
            if entry.is_dir(follow_symlinks=False):
                self._add(Path(entry))
            else:
                self._look(Path(entry))

    def _watch(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stop.wait(0.02)  # what happened until then is still taken in
            while events := self._read():
                self._take(events)

    def _read(self) -> bytes:
        try:
            return os.read(self._handle, 2**16)
        except BlockingIOError:
            return b""

    def _take(self, events: bytes) -> None:
        place = 0
        while place < len(events):
            watch, mask, _, length = EVENT.unpack_from(events, place)
            place += EVENT.size + length
            name = os.fsdecode(events[place - length : place].rstrip(b"\0"))
            if mask & OVERFLOW:
                self.seen.add("too much happened at once: not all of it was watched")
            if watch not in self._folders:
                continue
            path = self._folders[watch] / name
            if mask & IS_FOLDER:
                self._add(path)
            elif mask & MOVED_TO:
                self._look(path)
            elif mask & (CREATE | MODIFY):
                what = "made" if mask & CREATE else "changed"
                self.seen.add(f"{path.relative_to(self._out)}: {what} under its final name")

    def _look(self, path: Path) -> None:
        self.looks += 1
        try:
            if damage := damage_of(path, self._whole, self._out):
                self.seen.add(damage)
        except FileNotFoundError:
            return  # replaced between two looks
