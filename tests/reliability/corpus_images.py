"""Images as they come from broken disks, converters and hands: name → how to write one.

Each writer gets the path of the image. A case is either fine (``FINE``) or must be refused by a
message that names the file and holds the words given here.
"""

import bz2
import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (12, 12, 12)
FINE = ""
Writer = Callable[[Path], object]
IMAGES: dict[str, tuple[str, Writer]] = {}


def header_bytes(shape=SHAPE, dtype="float32") -> bytearray:
    """Make a sound header (348 bytes and no extension)."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(dtype)
    header.set_sform(np.eye(4), 1)
    header.set_qform(np.eye(4), 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return bytearray(header.binaryblock + b"\x00" * 4)


def voxels(dtype="float32", shape=SHAPE) -> bytes:
    """Make voxels that are no constant."""
    values = np.arange(np.prod(shape)) % 100
    return values.astype(dtype).tobytes()


def pack(content: bytes, path: Path) -> None:
    """Write a gzip file without a name and a time."""
    path.write_bytes(gzip.compress(content, 1, mtime=0))


def _add(name: str, words: str, writer: Writer) -> None:
    assert name not in IMAGES
    IMAGES[name] = (words, writer)


def _field(name: str, words: str, offset: int, kind: str, *values: float | bytes) -> None:
    """Add a case that differs from a sound image in one field of the header."""

    def write(path: Path) -> None:
        header = header_bytes()
        struct.pack_into(f"<{kind}", header, offset, *values)
        pack(bytes(header) + voxels(), path)

    _add(name, words, write)


def _shape(name: str, words: str, shape: tuple[int, ...], pad: int = 0) -> None:
    def write(path: Path) -> None:
        header = header_bytes(dtype="uint8")
        struct.pack_into("<8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
        content = gzip.compress(bytes(header) + voxels("uint8"), 1, mtime=0)
        path.write_bytes(content + np.random.default_rng(0).bytes(pad))

    _add(name, words, write)


def _values(name: str, words: str, change: Callable[[np.ndarray], None], dtype="float32") -> None:
    def write(path: Path) -> None:
        values = np.frombuffer(voxels(dtype), dtype).copy()
        change(values)
        pack(bytes(header_bytes(dtype=dtype)) + values.tobytes(), path)

    _add(name, words, write)


def _sound() -> bytes:
    return bytes(header_bytes()) + voxels()


# what is no image at all, or only a part of one
_add("empty", "0 bytes", lambda p: p.write_bytes(b""))
_add("one byte", "no readable NIfTI", lambda p: p.write_bytes(b"\x1f"))
_add("gzip magic alone", "no readable NIfTI", lambda p: p.write_bytes(b"\x1f\x8b"))
_add("random bytes", "no readable", lambda p: p.write_bytes(np.random.default_rng(1).bytes(5000)))
_add("text", "no readable NIfTI", lambda p: p.write_text("not found\n" * 100))
_add("web page", "no readable NIfTI", lambda p: p.write_text("<!DOCTYPE html><html></html>"))
_add("gzip of nothing", "no readable NIfTI", lambda p: pack(b"", p))
_add("gzip of text", "no readable NIfTI", lambda p: pack(b"git annex pointer\n" * 60, p))
_add("annex pointer", "no readable", lambda p: p.write_text("/annex/objects/MD5E-s1234--0.nii.gz"))
_add(
    "lfs pointer", "no readable", lambda p: p.write_text("version https://git-lfs.github.com/v1\n")
)
_add("gzip twice", "no readable NIfTI", lambda p: pack(gzip.compress(_sound()), p))
_add("not compressed", "no readable NIfTI", lambda p: p.write_bytes(_sound()))
_add("bzip2", "no readable", lambda p: p.write_bytes(bz2.compress(_sound())))
_add("zip archive", "no readable", lambda p: p.write_bytes(b"PK\x03\x04" + bytes(400)))
_add("header alone", "truncated", lambda p: pack(bytes(header_bytes()), p))
_add("half a header", "no readable NIfTI", lambda p: pack(bytes(header_bytes())[:200], p))
_add("voxels cut short", "truncated", lambda p: pack(_sound()[:-100], p))
_add("bytes after the end", FINE, lambda p: pack(_sound() + b"more", p))
_add(
    "two gzip members",
    FINE,
    lambda p: p.write_bytes(gzip.compress(_sound()[:3000]) + gzip.compress(_sound()[3000:])),
)
_add("garbage after gzip", FINE, lambda p: p.write_bytes(gzip.compress(_sound()) + b"\x00" * 16))
for percent in (2, 10, 25, 50, 75, 90, 99):
    _add(
        f"gzip cut at {percent} %",
        "copy or convert it again",
        lambda p, n=percent: p.write_bytes(
            (lambda c: c[: len(c) * n // 100])(gzip.compress(_sound(), 1))
        ),
    )
for place in (3, 30, 400):

    def _flip(path: Path, place=place) -> None:
        content = bytearray(gzip.compress(_sound(), 1, mtime=0))
        content[place % len(content)] ^= 0xFF
        path.write_bytes(content)

    _add(f"gzip damaged at byte {place}", "?", _flip)
_add(
    "gzip checksum",
    "cannot be read",
    lambda p: p.write_bytes(
        gzip.compress(_sound(), 1)[:-8] + b"\x01\x02\x03\x04" + gzip.compress(_sound(), 1)[-4:]
    ),
)
_add("a folder", "no readable NIfTI", lambda p: p.mkdir())
_add("a link in a circle", "a link to what is not there", lambda p: p.symlink_to(p.name))
_add("a link to nothing", "a link to what is not there", lambda p: p.symlink_to("nowhere"))
_add("nothing", "no such file", lambda p: None)

# fields of the header, by their offset in NIfTI-1
_field("sizeof_hdr 0", "?", 0, "i", 0)
_field("sizeof_hdr 540", "?", 0, "i", 540)
for rank in (0, -1, 8, 32000):
    _field(f"dim[0] {rank}", "?", 40, "h", rank)
for rank in (1, 2):
    _field(f"{rank} dimensions", "expected a 3D volume", 40, "h", rank)
for size in (0, -1, -32768, 1, 7):
    _field(f"size {size}", "?", 42, "h", size)
_shape("four dimensions", "expected a 3D volume", (12, 12, 6, 2))
_shape("three dimensions and 1", FINE, (12, 12, 12, 1))
_shape("seven dimensions", "expected a 3D volume", (2,) * 7)
_shape("33 million million voxels", "cannot hold", (32767, 32767, 32767))
_shape("eight thousand million voxels", "cannot hold", (2000, 2000, 2000))
_shape("a bomb", "is more than", (1024, 1024, 1000), pad=2**20)
_shape("a long bomb", "is more than", (32767, 32767, 8), pad=2**24)
for code in (0, 1, 3, 255, 9999, -2, 1536):
    _field(f"data type {code}", "no readable NIfTI", 70, "h", code)
for code in (32, 128, 1792, 2304):  # complex numbers and colours
    _field(f"data type {code}", "expected integers or floating point", 70, "h", code)
for dtype in ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float64"):
    _values(f"{dtype}", FINE, lambda values: None, dtype)
_field("bitpix 7", FINE, 72, "h", 7)
for offset in (0, -1, 3, 348, 351.5, 1e6, 1e30, float("nan"), float("inf"), float("-inf")):
    _field(f"vox_offset {offset}", "?", 108, "f", offset)
for slope in (0, -1, 1e38, 1e-45, float("nan"), float("inf")):
    _field(f"scl_slope {slope}", "?", 112, "f", slope)
for inter in (1e38, float("nan"), float("-inf")):
    _field(f"scl_inter {inter}", "?", 116, "ff"[1:], inter)
for size in (0.0, -1.0, float("nan"), float("inf"), 1e-30, 1e30):
    _field(f"pixdim {size}", "?", 80, "f", size)
for factor in (0.0, 5.0, float("nan")):
    _field(f"qfac {factor}", "?", 76, "f", factor)
_field("units 255", FINE, 123, "B", 255)
_field("description of bytes", FINE, 148, "4s", b"\xff\xfe\x00\x80")
_field("no forms", FINE, 252, "hh", 0, 0)
_field("form codes 99", "?", 252, "hh", 99, 99)
_field("form codes negative", "?", 252, "hh", -1, -1)
for value in (float("nan"), 2.0, 1e30):
    _field(f"quaternion {value}", "?", 256, "f", value)
for value in (0.0, float("nan"), float("inf"), 1e30, 50.0):
    _field(f"sform {value}", "?", 280, "f", value)
_field("sform all zero", "axes [0 0 0 0 / 0 0 0 0 /", 280, "12f", *[0.0] * 12)
_field("sform flat", "voxel sizes", 280, "12f", 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0)
_field("sform elsewhere", "sform and qform disagree", 280, "4f", 1, 0, 0, 60)
_field("sform mirrored", "sform and qform disagree", 280, "4f", -1, 0, 0, 0)
_field("magic of a pair", "?", 344, "4s", b"ni1\x00")
_field("magic unknown", "no readable NIfTI", 344, "4s", b"abcd")
_field("an extension that is not there", "?", 348, "4s", b"\x01\x00\x00\x00")

# values
_values("NaN", "NaN or infinite", lambda v: v.__setitem__(5, np.nan))
_values("infinite", "NaN or infinite", lambda v: v.__setitem__(5, np.inf))
_values("all NaN", "NaN or infinite", lambda v: v.fill(np.nan))
_values("constant", "every voxel has the value", lambda v: v.fill(7))
_values("zero", "every voxel has the value", lambda v: v.fill(0))
_values("complex", "expected integers or floating point", lambda values: None, "complex64")
_values("too large for float32", "NaN or infinite", lambda v: v.__setitem__(5, 1e300), "float64")


def _big_endian(path: Path) -> None:
    header = nib.Nifti1Header.from_fileobj(io.BytesIO(bytes(header_bytes())))
    values = np.frombuffer(voxels(), "<f4").astype(">f4").tobytes()
    pack(header.as_byteswapped(">").binaryblock + bytes(4) + values, path)


def _beside(link: Callable[[Path, Path], object]) -> Writer:
    def write(path: Path) -> None:
        real = path.with_name("real.nii.gz")
        pack(_sound(), real)
        link(real, path)

    return write


_add("big endian", FINE, _big_endian)
_add("a link to a sound image", FINE, _beside(lambda real, path: path.symlink_to(real)))
_add("a hard link", FINE, _beside(lambda real, path: path.hardlink_to(real)))
