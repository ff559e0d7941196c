"""The ICBM152 2009a nonlinear symmetric template (Fonov 2011), which lies beside this file.

Brain-only, 1 mm, 8-bit: a T1-weighted average and grey and white matter probabilities. They are
the files that nilearn distributes, without nilearn, of whose code nothing is needed here.

References
----------
Fonov et al. (2011), Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

#: The space entity and the words for sidecars.
SPACE = "MNI152NLin2009aSym"
DESCRIPTION = "ICBM152 2009a nonlinear symmetric, 1 mm, brain only, as distributed by nilearn"

_FOLDER = Path(__file__).with_name("atlas")
T1W = _FOLDER / f"tpl-{SPACE}_res-1_desc-brain_T1w.nii.gz"
GREY, WHITE = (_FOLDER / f"tpl-{SPACE}_res-1_label-{name}_probseg.nii.gz" for name in ("GM", "WM"))


class Template(NamedTuple):
    """Arrays on one 1 mm RAS+ grid."""

    t1w: NDArray[np.float32]  # (x, y, z), 0 outside the brain
    priors: NDArray[
        np.float32
    ]  # (3, x, y, z): CSF, GM, WM; their sum is 1 in the brain, less outside
    affine: NDArray[np.float64]  # (4, 4), voxel -> world, mm


@lru_cache(maxsize=1)
def load() -> Template:
    """Load the template and complete its priors with cerebrospinal fluid.

    Fluid is what the brain, where the T1w is not 0, holds beside grey and white matter. Outside
    of it the two published maps run out within a few voxels, and are left as they are.

    Returns
    -------
    Template
        Read-only arrays, shared by all callers.
    """
    image = nib.Nifti1Image.from_filename(T1W)
    t1w = image.get_fdata(dtype=np.float32)
    grey, white = (
        nib.Nifti1Image.from_filename(path).get_fdata(dtype=np.float32) / 255
        for path in (GREY, WHITE)
    )
    fluid = np.where(t1w > 0, np.clip(1 - grey - white, 0, 1), 0)
    priors = np.stack([fluid, grey, white])
    priors /= np.maximum(priors.sum(axis=0), 1)
    t1w.setflags(write=False)
    priors.setflags(write=False)
    return Template(t1w, priors, np.asarray(image.affine, dtype=np.float64))
