"""A penalty of its own for every feature space and lag, and whose is the explained variance.

Banded ridge (Nunez-Elizalde et al. 2019) is solved by himalaya's random search over the weights of
one kernel per band (Dupré la Tour et al. 2022). The variance that the joint model explains is split
among bands by the product measure, Σ_b ŷ_b · (2y − ŷ) / y · y, which adds up to R² exactly.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.encoding.selection import standardise

Floats = NDArray[Any]


def fit_banded(
    bands: Mapping[str, tuple[Floats, Floats]],
    Y: Floats,
    Y_test: Floats,
    fold: NDArray[np.intp],
    penalties: Sequence[float],
    *,
    iterations: int,
    seed: int,
    device: str = "cpu",
) -> tuple[Floats, dict[str, Floats]]:
    """Fit all bands together, and split what they explain on the test set.

    Parameters
    ----------
    bands : mapping
        Name → (training, test) features, (samples, features) each, not standardised.
    Y, Y_test : array, (samples, voxels)
        Responses without mean.
    fold : array of int, (training samples,)
        From ``assign_folds``.
    penalties : sequence of float
        Grid of the joint penalty.
    iterations : int
        Weightings of the bands that are tried: all alike, each band alone, then random ones.
    seed : int

    Returns
    -------
    predicted : array, (test samples, voxels), float32
    shares : dict
        Band → its part of R² on the test set, (voxels,); may be negative.

    Raises
    ------
    ImportError
        himalaya is not installed.
    """
    try:
        from himalaya.backend import set_backend
        from himalaya.kernel_ridge import MultipleKernelRidgeCV
        from himalaya.scoring import r2_score_split
        from sklearn.model_selection import PredefinedSplit
    except ImportError as error:
        raise ImportError(
            f"banded ridge needs himalaya ({error}); pip install brainstages[encoding],"
            " or set banded_iterations to 0"
        ) from error
    backend = set_backend("torch_cuda" if device.startswith("cuda") else "torch")
    kernels, cross = [], []
    for X, T in bands.values():
        X, T = standardise(X, T)
        scale = X.shape[1]  # so that a band's weight does not depend on how many features it has
        kernels.append(X @ X.T / scale)
        cross.append(T @ X.T / scale)
    weights = _weightings(len(bands), iterations, seed)
    model = MultipleKernelRidgeCV(
        kernels="precomputed",
        solver="random_search",
        cv=PredefinedSplit(fold),
        random_state=seed,
        solver_params={
            "n_iter": weights,
            "alphas": np.asarray(penalties),
            "n_targets_batch": 4096,
            "progress_bar": False,
        },
    )
    Y = np.ascontiguousarray(Y, dtype=np.float32)
    model.fit(np.stack(kernels).astype(np.float32), Y)
    split = model.predict(np.stack(cross).astype(np.float32), split=True)
    measured = backend.asarray(np.ascontiguousarray(Y_test, dtype=np.float32))
    shares = backend.to_numpy(r2_score_split(measured, split))
    predicted = backend.to_numpy(split.sum(0))
    return predicted, dict(zip(bands, shares, strict=True))


def partition_variance(r_joint: Floats, r_without: Mapping[str, Floats]) -> dict[str, Floats]:
    """Compute what each space alone explains: R² of all spaces less R² of all but this one.

    Correlations below 0 explain nothing. ``shared`` is what is left of the joint R².

    Parameters
    ----------
    r_joint : array, (voxels,)
        Test correlation of the joint model.
    r_without : mapping
        Space → test correlation of the model without it, (voxels,).
    """
    joint = np.maximum(r_joint, 0) ** 2
    unique = {name: joint - np.maximum(r, 0) ** 2 for name, r in r_without.items()}
    return {**unique, "shared": joint - sum(unique.values())}


def _weightings(bands: int, iterations: int, seed: int) -> Floats:
    """Draw weights of bands that sum to 1: all alike, each alone, then Dirichlet draws."""
    rng = np.random.default_rng(seed)
    fixed = [np.full(bands, 1 / bands), *np.eye(bands)][:iterations]
    drawn = [
        rng.dirichlet(np.full(bands, (0.1, 1.0)[k % 2])) for k in range(iterations - len(fixed))
    ]
    return np.stack([*fixed, *drawn])
