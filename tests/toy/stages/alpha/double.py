"""Multiply an image."""

import nibabel as nib
import numpy as np


def run(*, total, doubled, factor, seed):
    """Multiply every voxel by ``factor``."""
    volume = nib.load(total)
    nib.Nifti1Image(np.asarray(volume.dataobj) * factor, volume.affine).to_filename(doubled)
