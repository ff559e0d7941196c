"""Brains onto one grid by a shift alone."""

import numpy as np
import pytest
from scipy import ndimage

from stages.classifier.centring import SHAPE, SPACING_MM, centre
from stages.classifier.images import Volume

MIDDLE = (np.array(SHAPE) - 1) / 2


def ellipsoid(shape, zoom, *, at, radii):
    """Make a smooth ellipsoid; where it lies and how large it is are in mm."""
    places = np.indices(shape).reshape(3, -1).T * zoom
    far = np.sqrt((((places - at) / radii) ** 2).sum(axis=1)).reshape(shape)
    image = np.clip(1 - far, 0, None).astype(np.float32)
    return Volume(image, np.diag([*zoom, 1.0]))


@pytest.mark.parametrize("zoom", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (1.0, 1.2, 1.5)])
def test_size_stays_and_place_does_not(zoom):
    radii = np.array([40.0, 55.0, 45.0])
    shape = tuple(int(160 / z) for z in zoom)
    found = centre(ellipsoid(shape, np.array(zoom), at=np.array([76.0, 82.0, 79.0]), radii=radii))
    wanted = ellipsoid(SHAPE, np.full(3, SPACING_MM), at=MIDDLE * SPACING_MM, radii=radii)
    assert found.data.shape == SHAPE and found.zooms == (2.0, 2.0, 2.0)
    assert np.allclose(ndimage.center_of_mass(found.data), MIDDLE, atol=0.1)
    assert np.abs(found.data - wanted.data).max() < 0.04
    assert (found.data > 0.2).sum() == pytest.approx((wanted.data > 0.2).sum(), rel=0.01)


def test_the_affine_tells_where_voxels_came_from():
    found = centre(
        ellipsoid((80,) * 3, np.full(3, 2.0), at=np.array([70.0, 90.0, 80.0]), radii=np.full(3, 50))
    )
    assert np.allclose((found.affine @ [*MIDDLE, 1])[:3], [70, 90, 80], atol=0.2)
