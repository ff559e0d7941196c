"""Planted poses and sizes are found again."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stages.preprocessing import itk, registration, template

#: A point that is far from the centre in every direction, mm.
CORTEX = np.array([50.0, -60.0, 40.0, 1.0])


@pytest.fixture(scope="module")
def target():
    """The template at 2 mm, and the same with another contrast as an ideal subject."""
    whole = template.load()
    affine = whole.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    shape = tuple(size // 2 for size in whole.t1w.shape)
    return itk.resample(whole.t1w, whole.affine, np.eye(4), shape, affine), affine


def subject(target, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move the template's brain by a world matrix on a grid of its own."""
    data, affine = target
    grid = np.diag([2.5, 2.5, 2.5, 1.0])
    grid[:3, 3] = -150, -170, -150
    return itk.resample(data, affine, np.linalg.inv(matrix), (120, 120, 120), grid), grid


def turned_deg(matrix: np.ndarray) -> float:
    return float(np.rad2deg(Rotation.from_matrix(matrix[:3, :3]).magnitude()))


@pytest.mark.parametrize(
    ("angles", "shift"),
    [((12, 0, 0), (6, 4, 4)), ((0, 12, 0), (6, 4, 4)), ((0, 0, 12), (6, 4, 4)),
     ((35, -20, 25), (30, -25, 20))],
)  # fmt: skip
def test_planted_pose_is_recovered(target, rotation, angles, shift):
    planted = rotation(angles, shift)
    found = registration.align(*subject(target, planted), *target, dof=(6,))[6].matrix
    error = np.linalg.inv(planted) @ found
    assert turned_deg(error) < 0.2
    assert np.linalg.norm((error @ CORTEX - CORTEX)[:3]) < 0.2


@pytest.mark.parametrize(
    ("dof", "extra"),
    [
        (7, np.diag([0.85, 0.85, 0.85, 1])),
        (9, np.diag([0.95, 0.8, 0.88, 1])),
        (12, np.array([[0.9, 0.08, 0, 0], [0, 1.05, -0.06, 0], [0.05, 0, 0.95, 0], [0, 0, 0, 1]])),
    ],
)
def test_planted_size_and_shear_are_recovered(target, rotation, dof, extra):
    planted = rotation((8, -5, 10), (5, -8, 12)) @ extra
    found = registration.align(*subject(target, planted), *target, dof=(dof,))[dof]
    assert np.linalg.norm(((found.matrix - planted) @ CORTEX)[:3]) < 0.5
    assert found.correlation > 0.99


def test_posture_never_scales_and_keeps_the_right_on_the_right(target, rotation):
    planted = rotation((10, 5, -8), (4, 4, 4)) @ np.diag([0.8, 0.8, 0.8, 1])
    posture = registration.align(*subject(target, planted), *target, dof=(6,))[6].matrix
    np.testing.assert_allclose(posture[:3, :3] @ posture[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(posture[:3, :3]) == pytest.approx(1)
    assert turned_deg(np.linalg.inv(rotation((10, 5, -8), (0, 0, 0))) @ posture) < 0.5


def test_phantoms_affine_is_recovered(chain):
    """The phantom's warp moves single points by millimetres; an affine can only get the rest."""
    truth = chain.truth
    points = np.argwhere(truth.brain)[::500]
    world = truth.affine @ np.vstack([points.T, np.ones(len(points))])
    expected = truth.to_template(world[:3])
    got = np.linalg.solve(chain.matrix, world)[:3]
    assert np.median(np.linalg.norm(got - expected, axis=0)) < 4


def test_contrast_and_brightness_do_not_matter(target, rotation):
    data, grid = subject(target, rotation((5, 5, 5), (3, 3, 3)))
    first = registration.align(data, grid, *target, dof=(6,))[6].matrix
    second = registration.align(data * 37, grid, *target, dof=(6,))[6].matrix
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_same_input_gives_the_same_bits(target, rotation):
    moved = subject(target, rotation((5, 5, 5), (3, 3, 3)))
    first, second = (registration.align(*moved, *target, dof=(12,))[12] for _ in range(2))
    np.testing.assert_array_equal(first.matrix, second.matrix)


def test_unknown_freedom_is_refused(target):
    with pytest.raises(ValueError, match=r"\[8\] degrees of freedom, expected 6, 7, 9 or 12"):
        registration.align(*target, *target, dof=(8,))


def test_empty_brain_is_refused(target):
    with pytest.raises(ValueError, match="check the brain mask"):
        registration.align(np.zeros((9, 9, 9)), np.eye(4), *target)
