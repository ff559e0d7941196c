"""A file system that is slow, stalls, fails or goes away: a folder shown read-only through FUSE.

``python frail_mount.py SOURCE MOUNT ORDERS`` serves until it is unmounted or killed; after a kill
the mount answers "Transport endpoint is not connected", as one over a network does whose server is
gone. The file ORDERS is read before each answer: JSON with any of ``delay_s`` (before each read),
``fail`` (reads of files with this in their name end with an input/output error), ``die`` (the
server ends itself at such a read) and ``stall`` (nothing is read until this is withdrawn).

Speaks version 7.31 of the kernel's protocol, as in linux/fuse.h, with the few calls that reading
needs. Needs root and /dev/fuse.
"""

import ctypes
import errno
import json
import os
import signal
import stat
import struct
import sys
import threading
import time
from pathlib import Path

HEADER, ANSWER = struct.Struct("IIQQIIII"), struct.Struct("IiQ")
ATTRIBUTES = struct.Struct("6Q10I")
LOOKUP, FORGET, GETATTR, READLINK, OPEN, READ, STATFS, RELEASE = 1, 2, 3, 5, 14, 15, 17, 18
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, ACCESS = 25, 26, 27, 28, 29, 34
INTERRUPT, FORGET_MANY = 36, 42
SILENT = (FORGET, INTERRUPT, FORGET_MANY)  # want no answer
BUFFER = 2**20 + 2**12
ROOT = 1


class Server:
    """Answers the kernel's questions about a folder; each in a thread of its own."""

    def __init__(self, source: Path, orders: Path, device: int) -> None:
        self._orders, self._device = orders, device
        self._paths = {ROOT: os.fspath(source)}  # node → path
        self._nodes = {os.fspath(source): ROOT}
        self._withdrawn: set[int] = set()  # questions of processes that are being killed
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Answer until the file system is unmounted."""
        while True:
            try:
                request = os.read(self._device, BUFFER)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                    continue  # a question was withdrawn
                raise
            threading.Thread(target=self._answer, args=(request,), daemon=True).start()

    def _answer(self, request: bytes) -> None:
        _, call, unique, node, *_ = HEADER.unpack_from(request)
        told = request[HEADER.size :]
        if call == INTERRUPT:
            self._withdrawn.add(struct.unpack_from("Q", told)[0])
        if call in SILENT:
            return
        try:
            content, code = self._do(call, unique, node, told), 0
        except OSError as error:
            content, code = b"", -(error.errno or errno.EIO)
        answer = ANSWER.pack(ANSWER.size + len(content), code, unique) + content
        try:
            os.write(self._device, answer)
        except OSError as error:
            if error.errno != errno.ENOENT:  # who asked was killed meanwhile
                raise

    def _do(self, call: int, unique: int, node: int, told: bytes) -> bytes:
        if call == INIT:
            return struct.pack("4I2H2I2H8I", 7, 31, 0, 0, 12, 9, 2**17, 1, 0, 0, *[0] * 8)
        path = self._paths[node]
        if call == LOOKUP:
            return self._entry(os.path.join(path, os.fsdecode(told.rstrip(b"\0"))))
        if call == GETATTR:
            return struct.pack("QII", 0, 0, 0) + _attributes(path, node)
        if call == READLINK:
            return os.fsencode(os.readlink(path))
        if call in (OPEN, OPENDIR):
            return struct.pack("QII", 0, 1, 0)  # 1: past the kernel's cache, each read comes here
        if call == READ:
            _, offset, size = struct.unpack_from("QQI", told)
            return self._read(path, offset, size, unique)
        if call == READDIR:
            _, offset, size = struct.unpack_from("QQI", told)
            return self._list(path, offset, size)
        if call == STATFS:
            return struct.pack("5Q10I", *[2**20] * 5, 4096, 255, 4096, *[0] * 7)
        if call in (FLUSH, RELEASE, RELEASEDIR, ACCESS):
            return b""
        raise OSError(errno.ENOSYS, "not needed for reading")

    def _entry(self, path: str) -> bytes:
        os.lstat(path)  # OSError if there is none
        with self._lock:
            node = self._nodes.setdefault(path, len(self._nodes) + 1)
            self._paths[node] = path
        return struct.pack("QQQQII", node, 0, 0, 0, 0, 0) + _attributes(path, node)

    def _list(self, path: str, offset: int, size: int) -> bytes:
        found = b""
        names = [".", "..", *sorted(os.listdir(path))]
        for number, name in list(enumerate(names, start=1))[offset:]:
            raw = os.fsencode(name)
            entry = struct.pack("QQII", 2**40 + number, number, len(raw), 0) + raw
            entry += b"\0" * (-len(entry) % 8)
            if len(found) + len(entry) > size:
                break
            found += entry
        return found

    def _read(self, path: str, offset: int, size: int, unique: int) -> bytes:
        orders = self._read_orders()
        time.sleep(orders.get("delay_s", 0))
        while self._read_orders().get("stall"):
            if unique in self._withdrawn:
                raise OSError(errno.EINTR, "whoever asked is gone")
            time.sleep(0.05)
        if orders.get("die", "\0") in path:
            os.kill(os.getpid(), signal.SIGKILL)
        if orders.get("fail", "\0") in path:
            raise OSError(errno.EIO, "as ordered")
        with open(path, "rb") as handle:
            handle.seek(offset)
            return handle.read(size)

    def _read_orders(self) -> dict:
        return json.loads(self._orders.read_text())


def _attributes(path: str, node: int) -> bytes:
    info = os.lstat(path)
    nanoseconds = (info.st_atime_ns, info.st_mtime_ns, info.st_ctime_ns)
    is_folder = stat.S_ISDIR(info.st_mode)
    return ATTRIBUTES.pack(
        *(node, info.st_size, info.st_blocks, *(ns // 10**9 for ns in nanoseconds)),
        *(ns % 10**9 for ns in nanoseconds),
        *(info.st_mode, 2 if is_folder else 1, info.st_uid, info.st_gid, 0, 4096, 0),
    )


def main() -> None:
    """Mount and serve."""
    source, mount, orders = map(Path, sys.argv[1:])
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    flags = 1  # MS_RDONLY
    if libc.mount(b"frail", os.fsencode(mount), b"fuse.frail", flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(mount))
    print("mounted", flush=True)
    Server(source, orders, device).serve()


if __name__ == "__main__":
    main()
