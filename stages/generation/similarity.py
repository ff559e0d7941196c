"""How like sets of slices are as sets: FID, KID, precision, recall, density, coverage, MS-SSIM.

All but MS-SSIM compare features. There is no network trained on photographs here; the features are
those of the judging network, and the distances are called FID(judge) and KID(judge). They cannot be
compared with those of other networks.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

Array = NDArray[np.float64]

NEIGHBOURS = 5
SSIM_WEIGHTS = (0.3, 0.35, 0.35)
SSIM_KERNEL = 5
MOST_PAIRS = 200


def frechet_distance(x: Array, y: Array) -> float:
    """Fréchet distance of Gaussians fitted to features (n, d) and (m, d), squared.

    |mean_x - mean_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)); biased upward in small samples.
    """
    gap = x.mean(0) - y.mean(0)
    a, b = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    # The eigenvalues of S_x S_y are those of a symmetric product, hence real and not negative.
    root = linalg.sqrtm(a + 0j).real
    values = np.linalg.eigvalsh(root @ b @ root)
    cross = np.sqrt(np.maximum(values, 0)).sum()
    return max(0.0, float(gap @ gap + np.trace(a) + np.trace(b) - 2 * cross))


def kernel_distance(x: Array, y: Array) -> float:
    """Unbiased squared maximum mean discrepancy with kernel (x·y / d + 1)^3 (KID)."""
    d, n, m = x.shape[1], len(x), len(y)
    xx, yy, xy = ((p @ q.T / d + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def manifold_scores(real: Array, made: Array, neighbours: int = NEIGHBOURS) -> dict[str, float]:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Balls reach from each point to its k-th neighbour of the same set.
    """
    k = max(1, min(neighbours, len(real) - 1, len(made) - 1))
    across = _distances(real, made)
    real_reach, made_reach = _reach(real, k), _reach(made, k)
    in_real = across <= real_reach[:, None]
    in_made = across <= made_reach[None, :]
    return {
        "precision": float(in_real.any(0).mean()),
        "recall": float(in_made.any(1).mean()),
        "density": float(in_real.sum(0).mean() / k),
        "coverage": float(in_real.any(1).mean()),
    }


def mean_ms_ssim(images: Tensor, *, seed: int) -> float:
    """Average the multi-scale structural similarity of pairs; the lower the more diverse.

    Parameters
    ----------
    images : tensor, (n, 1, s, s), -1 to 1
        At least two; of many, 200 pairs are drawn.
    """
    from monai.metrics import MultiScaleSSIMMetric

    coarsest = images.shape[-1] // (len(SSIM_WEIGHTS) - 1) ** 2
    if len(images) < 2 or coarsest < SSIM_KERNEL:
        return float("nan")
    pairs = np.stack(np.triu_indices(len(images), 1), 1)
    if len(pairs) > MOST_PAIRS:
        pairs = np.random.default_rng(seed).choice(pairs, MOST_PAIRS, replace=False)
    metric: Any = MultiScaleSSIMMetric(
        spatial_dims=2, data_range=2.0, kernel_size=SSIM_KERNEL, weights=SSIM_WEIGHTS
    )
    with torch.no_grad():
        return float(metric(images[pairs[:, 0]], images[pairs[:, 1]]).mean())


def _reach(x: Array, k: int) -> Array:
    return np.sort(_distances(x, x), axis=1)[:, k]  # 0 is the point itself


def _distances(x: Array, y: Array) -> Array:
    square = (x**2).sum(1)[:, None] - 2 * x @ y.T + (y**2).sum(1)
    if x is y:
        np.fill_diagonal(square, 0)
    return np.sqrt(np.maximum(square, 0))
