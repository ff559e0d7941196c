"""Maps on nilearn's fsaverage5: inflated from outside and inside, and flat."""

import warnings
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from stages.encoding.grids import VolumeGrid

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

Floats = NDArray[Any]

FSAVERAGE5_VERTICES = 10242
HEMISPHERES = ("left", "right")
VIEWS = (("infl", "lateral"), ("infl", "medial"), ("flat", "from above"))
# Turned so that the occipital pole of both flat hemispheres is below: elevation, azimuth.
FLAT_VIEWS = {"left": (90.0, 0.0), "right": (90.0, 180.0)}


def project(grid: VolumeGrid, values: Floats) -> dict[str, Floats]:
    """Take a volume's values along the cortex between its surfaces, by hemisphere.

    Parameters
    ----------
    grid : VolumeGrid
        In MNI space, which fsaverage's surfaces roughly share.
    values : array, (voxels,)

    Returns
    -------
    maps : dict
        Hemisphere → (10242,), 0 where no voxel of the mask is near.
    """
    from nilearn import datasets, surface

    surfaces = datasets.fetch_surf_fsaverage("fsaverage5")
    volume = np.zeros(grid.mask.shape, dtype=np.float32)
    volume[grid.mask] = values
    image = nib.Nifti1Image(volume, grid.affine)
    mask = nib.Nifti1Image(grid.mask.astype(np.uint8), grid.affine)
    maps = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")  # vertices outside of the mask
        for side in HEMISPHERES:
            outer, inner = surfaces[f"pial_{side}"], surfaces[f"white_{side}"]
            values_on = surface.vol_to_surf(image, outer, inner_mesh=inner, mask_img=mask)
            maps[side] = np.nan_to_num(values_on)
    return maps


def draw_surfaces(maps: Mapping[str, Floats]) -> Any:
    """Draw hemispheres, one per row; return the figure.

    Parameters
    ----------
    maps : mapping
        ``left`` or ``right`` → (10242,).
    """
    from nilearn import datasets, plotting

    surfaces = datasets.fetch_surf_fsaverage("fsaverage5")
    figure = plt.figure(figsize=(9, 3.2 * len(maps)))
    everything = np.concatenate(list(maps.values()))
    limit = max(float(np.quantile(np.abs(everything), 0.995)), 1e-3)
    for row, (side, values) in enumerate(maps.items()):
        for column, (kind, view) in enumerate(VIEWS):
            place = row * len(VIEWS) + column + 1
            axes = figure.add_subplot(len(maps), len(VIEWS), place, projection="3d")
            plotting.plot_surf(
                surfaces[f"{kind}_{side}"],
                surf_map=values,
                bg_map=surfaces[f"sulc_{side}"],
                hemi=side,
                view=FLAT_VIEWS[side] if kind == "flat" else view,
                cmap="RdBu_r",
                vmin=-limit,
                vmax=limit,
                axes=axes,
                figure=figure,
                colorbar=False,
            )
            axes.set_title(f"{side}, {'flat' if kind == 'flat' else view}", fontsize=8)
    figure.subplots_adjust(left=0.01, right=0.92, bottom=0.02, top=0.9, wspace=0.0, hspace=0.08)
    scale = ScalarMappable(Normalize(-limit, limit), "RdBu_r")
    figure.colorbar(scale, cax=figure.add_axes((0.94, 0.3, 0.012, 0.4)))
    return figure
