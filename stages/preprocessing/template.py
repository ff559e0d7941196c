"""The ICBM152 2009a nonlinear symmetric template (Fonov 2011), as shipped inside nilearn.

Only the files are used: importing nilearn costs a second, finding them costs nothing. They are
brain-only, 1 mm, 8-bit: a T1-weighted average and grey and white matter probabilities.

References
----------
Fonov et al. (2011), Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

#: The space entity and the words for sidecars.
SPACE = "MNI152NLin2009aSym"
DESCRIPTION = "ICBM152 2009a nonlinear symmetric, 1 mm, brain only, as shipped by nilearn"


class Template(NamedTuple):
    """Arrays on one 1 mm RAS+ grid."""

    t1w: NDArray[np.float32]  # (x, y, z), 0 outside the brain
    priors: NDArray[np.float32]  # (3, x, y, z): CSF, GM, WM; they sum to 1 in the brain, 0 outside
    affine: NDArray[np.float64]  # (4, 4), voxel -> world, mm


def locate() -> Path:
    """Find nilearn's data folder without importing nilearn.

    Raises
    ------
    FileNotFoundError
        When nilearn is missing or was installed without its data files.
    """
    package = find_spec("nilearn")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError(
            "the template is shipped with nilearn, which is not installed; "
            "install the extra 'preprocessing'"
        )
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    if not _file(folder, "t1").exists():
        raise FileNotFoundError(
            f"{_file(folder, 't1')}: the template is missing from this nilearn; "
            "install nilearn 0.10 or later"
        )
    return folder


@lru_cache(maxsize=1)
def load() -> Template:
    """Load the template and complete its priors with cerebrospinal fluid.

    Fluid is what the brain mask holds beside grey and white matter. The two published maps are
    zero outside the template's T1w, which serves as mask.

    Returns
    -------
    Template
        Read-only arrays, shared by all callers.
    """
    folder = locate()
    image = nib.Nifti1Image.from_filename(_file(folder, "t1"))
    t1w = image.get_fdata(dtype=np.float32)
    grey, white = (
        nib.Nifti1Image.from_filename(_file(folder, name)).get_fdata(dtype=np.float32) / 255
        for name in ("gm", "wm")
    )
    fluid = np.where(t1w > 0, np.clip(1 - grey - white, 0, 1), 0)
    priors = np.stack([fluid, grey, white])
    priors /= np.maximum(priors.sum(axis=0), 1)
    t1w.setflags(write=False)
    priors.setflags(write=False)
    return Template(t1w, priors, np.asarray(image.affine, dtype=np.float64))


def _file(folder: Path, name: str) -> Path:
    return folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
