"""Every kind of bad file is named with its reason and remedy; what is written is reproducible."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from stages.preprocessing import nifti

SIZE = (12, 13, 14)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1000, SIZE).astype(np.float32)


def write(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.Nifti1Image(data, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def test_loads_scaled_values_in_stored_orientation(tmp_path, values):
    affine = np.array([[0, 0, 2.0, -9], [-2, 0, 0, 9], [0, 2, 0, -9], [0, 0, 0, 1]])
    image = nib.Nifti1Image(values, affine)
    image.header.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "T1w.nii.gz")
    volume = nifti.load_t1w(tmp_path / "T1w.nii.gz")
    np.testing.assert_allclose(volume.data, values, atol=0.05)
    assert volume.record["orientation"] == "PSR"


def test_a_fourth_axis_of_one_volume_is_dropped(tmp_path, values):
    assert nifti.load_t1w(write(tmp_path / "T1w.nii.gz", values[..., None])).data.shape == SIZE


def _empty(path, values):
    path.write_bytes(b"")


def _truncated(path, values):
    write(path, values)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _shortened_inside(path, values):
    write(path, values)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-4000]))


def _text(path, values):
    path.write_bytes(gzip.compress(b"not an image" * 100))


def _series(path, values):
    write(path, np.stack([values, values], axis=-1))


def _flat(path, values):
    write(path, values[:, :, :1])


def _nan(path, values):
    values[3, 4, 5] = np.nan
    write(path, values)


def _inf(path, values):
    values[3, 4, 5] = np.inf
    write(path, values)


def _constant(path, values):
    write(path, np.full(SIZE, 7, dtype=np.float32))


def _zero_zooms(path, values):
    write(path, values)
    content = bytearray(gzip.decompress(path.read_bytes()))
    header = np.frombuffer(content[:348], dtype=nib.Nifti1Header.template_dtype).copy()
    header["pixdim"][0, 1:4] = 0
    for row in ("srow_x", "srow_y", "srow_z"):
        header[row] = 0
    path.write_bytes(gzip.compress(header.tobytes() + bytes(content[348:])))


def _two_frames(path, values):
    image = nib.Nifti1Image(values, np.eye(4))
    image.set_sform(np.diag([-1.0, 1, 1, 1]), code=1)
    image.set_qform(np.eye(4), code=1)
    image.to_filename(path)


BAD = {
    "0 bytes": _empty,
    "copy or convert it again": _truncated,
    "truncated": _shortened_inside,
    "no readable NIfTI": _text,
    "give one volume per file": _series,
    "12x13x1, expected a 3D": _flat,
    "1 of 2184 voxels are NaN or infinite; .* replace": _nan,
    "NaN or infinite": _inf,
    "every voxel has the value 7, .* leave the file out": _constant,
    "voxel sizes 0x0x0 mm, .* convert the image from DICOM again": _zero_zooms,
    r"sform and qform disagree by 22.0 mm, .*fslorient": _two_frames,
}


@pytest.mark.parametrize(("message", "spoil"), BAD.items(), ids=[f.__name__ for f in BAD.values()])
def test_bad_file_is_named_with_reason_and_remedy(tmp_path, values, message, spoil):
    path = tmp_path / "sub-01_T1w.nii.gz"
    spoil(path, values)
    with pytest.raises(ValueError, match=f"(?s)^{path}: .*{message}"):
        nifti.load_t1w(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="sub-09_T1w"):
        nifti.load_t1w(tmp_path / "sub-09_T1w.nii.gz")


def test_rounding_between_the_two_frames_is_accepted(tmp_path, values):
    image = nib.Nifti1Image(values, np.eye(4))
    image.set_sform(nib.affines.from_matvec(np.eye(3), [0.01, 0, 0]), code=1)
    image.set_qform(np.eye(4), code=1)
    image.to_filename(tmp_path / "T1w.nii.gz")
    assert nifti.load_t1w(tmp_path / "T1w.nii.gz").affine[0, 3] == pytest.approx(0.01)


@pytest.mark.parametrize(("dtype", "step"), [("float32", 0), ("int16", 1000 / 32767)])
def test_written_values_and_frames_come_back(tmp_path, values, dtype, step):
    affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.2, 0.3) * 2, [1, 2, 3])
    nifti.save_image(tmp_path / "a.nii.gz", values, affine, dtype=dtype)
    image = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(image.get_fdata(), values, atol=step)
    np.testing.assert_allclose(image.get_sform(), affine, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), affine, atol=1e-5)
    assert image.get_data_dtype() == dtype


def test_fractions_are_stored_in_255_steps(tmp_path, values):
    nifti.save_image(tmp_path / "p.nii.gz", values / 1000, np.eye(4), dtype="uint8", slope=1 / 255)
    image = nib.load(tmp_path / "p.nii.gz")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.get_fdata(), values / 1000, atol=0.5 / 255 + 1e-6)


def test_bytes_depend_on_the_values_alone(tmp_path, values, monkeypatch):
    nifti.save_image(tmp_path / "a.nii.gz", values, np.eye(4), dtype="int16")
    monkeypatch.setattr("time.time", lambda: 0.0)
    nifti.save_image(tmp_path / "b.nii.gz", values, np.eye(4), dtype="int16")
    first, second = ((tmp_path / name).read_bytes() for name in ("a.nii.gz", "b.nii.gz"))
    assert first == second
    assert first[3] == 0  # no name in the gzip header
    assert first[4:8] == bytes(4)  # no time


def test_row_says_na_for_what_is_not_finite(tmp_path):
    nifti.save_row(tmp_path / "scans.tsv", {"filename": "anat/a.nii.gz", "snr": float("nan")})
    assert (tmp_path / "scans.tsv").read_text() == "filename\tsnr\nanat/a.nii.gz\tn/a\n"
