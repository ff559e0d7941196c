"""Alignments against SimpleITK, and heads turned upright."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import io
from scipy.spatial.transform import Rotation

from stages.classifier.alignment import (
    FIRST_MM,
    SHAPE,
    SPACING_MM,
    keep_head,
    read_alignment,
    turn_upright,
    volume_ratio,
)
from stages.classifier.images import Volume

MATRIX = np.array([[1.1, 0.1, 0.0], [0.0, 1.2, -0.2], [0.05, 0.0, 0.9]])
LPS = np.array([-1.0, -1.0, 1.0])


def test_points_go_where_simpleitk_takes_them(tmp_path):
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(MATRIX.ravel().tolist())
    affine.SetTranslation((3.0, -4.0, 5.0))
    affine.SetCenter((10.0, 20.0, -30.0))
    sitk.WriteTransform(affine, str(tmp_path / "a.mat"))
    found = read_alignment(tmp_path / "a.mat")
    for point in np.random.default_rng(0).normal(0, 50, size=(5, 3)):
        theirs = LPS * affine.TransformPoint((LPS * point).tolist())
        assert np.allclose((found @ [*point, 1])[:3], theirs, atol=1e-9)
    assert volume_ratio(found) == pytest.approx(np.linalg.det(MATRIX))


def test_a_turned_head_lies_as_one_that_never_was_and_keeps_its_size():
    """The formula of a head, written into a turned frame and read back, is the head itself."""
    places = np.indices(SHAPE).reshape(3, -1).T * SPACING_MM + FIRST_MM
    radii, middle = np.array([70.0, 90.0, 65.0]), np.array([0.0, -15.0, 5.0])

    def formula(points):
        return np.clip(1 - np.sqrt((((points - middle) / radii) ** 2).sum(axis=1)), 0, None)

    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [14, -6, 9], degrees=True).as_matrix()
    turn[:3, 3] = [12.0, -20.0, 30.0]
    affine = np.diag([1.8, 1.8, 2.2, 1.0])
    affine[:3, 3] = [-120.0, -140.0, -100.0]
    shape = (135, 150, 120)
    world = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    back = np.linalg.inv(turn)
    head = formula(world @ back[:3, :3].T + back[:3, 3]).reshape(shape).astype(np.float32)
    found = turn_upright(Volume(head, affine), turn)
    assert found.data.shape == SHAPE and found.zooms == (SPACING_MM,) * 3
    assert np.abs(found.data - formula(places).reshape(SHAPE)).max() < 0.03
    assert np.allclose(found.affine[:3, 3], FIRST_MM)


def test_only_the_head_stays_wherever_the_field_of_view_ends():
    """Noise around heads differs with the field of view; what is kept does not."""
    rng = np.random.default_rng(0)
    grid = np.indices((40, 44, 36)) - np.array([20, 22, 18]).reshape(3, 1, 1, 1)
    far = np.sqrt((grid**2).sum(axis=0))
    head = np.where(far < 14, 500 + 60 * rng.normal(size=far.shape), 0).astype(np.float32)
    head[far < 4] = 5.0  # a dark ventricle, or sinus
    noise = 8 * np.abs(rng.normal(size=far.shape))
    noise[2:4, 2:4, 2:4] = 400.0  # something bright that is no head
    wide = np.where(far < 14, head, noise).astype(np.float32)
    narrow = wide.copy()
    narrow[:5], narrow[:, -6:] = 0, 0
    for image in (wide, narrow):
        assert np.array_equal(keep_head(Volume(image, np.eye(4))).data, head)
    with pytest.raises(ValueError, match="no voxel differs from 0"):
        keep_head(Volume(head * 0, np.eye(4)))


def test_broken_alignments_are_refused(tmp_path):
    (tmp_path / "text.mat").write_text("no matrix")
    with pytest.raises(ValueError, match="no readable alignment"):
        read_alignment(tmp_path / "text.mat")
    io.savemat(tmp_path / "other.mat", {"table": np.zeros((3, 3))}, format="4")
    with pytest.raises(ValueError, match="no ITK affine"):
        read_alignment(tmp_path / "other.mat")
    flat = {"AffineTransform_double_3_3": np.zeros((12, 1)), "fixed": np.zeros((3, 1))}
    io.savemat(tmp_path / "flat.mat", flat, format="4")
    with pytest.raises(ValueError, match="an affine without a volume"):
        read_alignment(tmp_path / "flat.mat")
