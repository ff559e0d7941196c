"""The coronal slice is where it says, upright and not mirrored."""

import numpy as np
import pytest

from stages.preprocessing import coronal


def ball(
    centre: tuple[float, float, float], posture: np.ndarray, radius_mm: float = 4.0
) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball at a point of the upright frame, in a dim head held in a pose."""
    grid = np.diag([2.0, 2.0, 2.0, 1.0])
    grid[:3, 3] = -110
    index = np.indices((110, 110, 110)).reshape(3, -1)
    upright = np.linalg.inv(posture) @ grid @ np.vstack([index, np.ones(index.shape[1])])
    distance = np.linalg.norm(upright[:3] - np.array(centre)[:, None], axis=0)
    head = np.linalg.norm(upright[:3], axis=0) < 70
    return (1.0 * head + 9 * (distance < radius_mm)).reshape(110, 110, 110), grid


@pytest.fixture
def posture(rotation) -> np.ndarray:
    return rotation((12, -8, 5), (6, 4, 4))


def test_plane_is_160_by_160_at_1_mm(posture):
    plane, grid = coronal.cut(*ball((20, -18, 10), posture), posture, -18)
    assert plane.shape == (160, 1, 160)
    np.testing.assert_array_equal(grid[:3, :3], np.eye(3))
    assert plane.min() >= 0


def test_marker_lies_in_the_plane_at_its_place_right_of_the_middle(posture):
    plane, grid = coronal.cut(*ball((20, -18, 10), posture), posture, -18)
    weight = np.where(plane > 5, plane, 0)
    index = [(np.indices(plane.shape)[axis] * weight).sum() / weight.sum() for axis in range(3)]
    np.testing.assert_allclose((grid @ [*index, 1])[:3], (20, -18, 10), atol=0.5)


@pytest.mark.parametrize("y_mm", [-24.0, -12.0])
def test_marker_is_not_seen_from_6_mm_away(posture, y_mm):
    plane, _ = coronal.cut(*ball((20, -18, 10), posture), posture, y_mm)
    assert plane.max() < 3


def test_picture_shows_the_right_on_the_right_and_the_top_at_the_top(posture):
    plane, _ = coronal.cut(*ball((30, -18, 40), posture, 8.0), posture, -18)
    picture, white = coronal.to_picture(plane)
    pixels = np.asarray(picture)
    assert pixels.shape == (160, 160)
    assert pixels.dtype == np.uint8
    row, column = (axis.mean() for axis in np.nonzero(pixels > 200))
    assert row < 80 < column
    assert white > 1


def test_plane_beside_the_brain_is_refused():
    with pytest.raises(ValueError, match="misses the brain"):
        coronal.to_picture(np.zeros((160, 1, 160)))
