"""Brains in their own frame and size onto one grid, by a shift alone.

Alignment with a template by 12 parameters takes away how large a head is, which tells much of sex;
this keeps it, and needs no cohort: a person alone is placed as all others were.
"""

import numpy as np
from scipy import ndimage

from stages.classifier.images import Volume

SHAPE = (96, 112, 96)  # 192 × 224 × 192 mm, room for any head
SPACING_MM = 2.0


def centre(volume: Volume) -> Volume:
    """Sample a brain by straight lines between voxels, its centroid in the grid's middle.

    Parameters
    ----------
    volume
        0 outside the brain; its axes are kept, so a head that is turned stays so.

    Raises
    ------
    ValueError
        Nothing but zeros.
    """
    places = np.nonzero(volume.data)
    if not len(places[0]):
        raise ValueError("no voxel differs from 0; run preprocessing on the head again")
    centroid = np.array([axis.mean() for axis in places])
    step = SPACING_MM / np.array(volume.zooms)
    first = centroid - step * (np.array(SHAPE) - 1) / 2
    data = ndimage.affine_transform(volume.data, np.diag(step), first, SHAPE, order=1, cval=0.0)
    move = np.diag([*step, 1.0])
    move[:3, 3] = first
    return Volume(data.astype(np.float32), volume.affine @ move)
