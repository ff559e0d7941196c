"""What can be known of a scan without looking at its voxels, as numbers for a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

SCANNER = (
    "Manufacturer",
    "ManufacturersModelName",
    "DeviceSerialNumber",
    "StationName",
    "InstitutionName",
    "SoftwareVersions",
    "MagneticFieldStrength",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
)
_GRID = tuple(f"{what}_{axis}" for what in ("shape", "zoom", "fov") for axis in "xyz")
_HEADER = (*_GRID, "fov_ml", "orientation", "sform_code", "qform_code", "dtype")
#: How the scan was made. The scale factor of preprocessed images is our own doing and left out.
ACQUISITION = (
    "n_slices",
    *_HEADER,
    *(f"raw_{name}" for name in (*_HEADER, "slope")),
    *SCANNER,
    "site",
)
#: How large the brain is: anatomy, told apart from how the scan was made.
ANATOMY = ("brain_volume_ml",)


def encode(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> NDArray[np.float64]:
    """Turn columns of a table into numbers.

    Numbers stay, with the mean for what is missing and a column that says so; words become one
    column per value that at least two scans share, the most frequent value being the baseline. What
    never varies is left out.

    Returns
    -------
    array, (n, q)
        q may be 0.
    """
    parts: list[NDArray[np.float64]] = []
    for name in columns:
        values = [row.get(name, "n/a") for row in rows]
        known = [value for value in values if value != "n/a"]
        if not known:
            continue
        missing = np.array([value == "n/a" for value in values], dtype=float)
        try:
            numbers = np.array([float(v) if v != "n/a" else np.nan for v in values])
            parts.append(np.where(missing > 0, np.nanmean(numbers), numbers))
        except ValueError:
            words = sorted(set(known), key=lambda word: (-known.count(word), word))
            parts += [
                np.array([value == word for value in values], dtype=float)
                for word in words[1:]
                if known.count(word) >= 2
            ]
        parts.append(missing)
    varying = [part for part in parts if np.ptp(part) > 0]
    return np.column_stack(varying) if varying else np.empty((len(rows), 0))


def predict_label(
    features: NDArray[np.float64], labels: NDArray[np.intp], *, folds: int, seed: int
) -> NDArray[np.float64]:
    """Predict each person's label by models that were fitted without that person.

    The mean of a logistic regression and of gradient boosting: one number, so that no choice is
    made between the two by looking at the result.

    Parameters
    ----------
    features : array, (n, q)
        Nothing to learn from (q = 0) gives equal probabilities.
    labels : array, (n,)
        0 … classes-1.

    Returns
    -------
    array, (n, classes)
        Probabilities.
    """
    classes = int(labels.max()) + 1
    probability = np.full((len(labels), classes), 1 / classes)
    if features.shape[1] == 0:
        return probability
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(
        features, labels
    ):
        linear = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000)
        ).fit(features[train], labels[train])
        trees = GradientBoostingClassifier(
            n_estimators=60, max_depth=2, subsample=0.8, random_state=seed
        ).fit(
            features[train],
            labels[train],
            sample_weight=compute_sample_weight("balanced", labels[train]),
        )
        probability[test] = 0.5 * (
            linear.predict_proba(features[test]) + trees.predict_proba(features[test])
        )
    return probability


def geometry_strata(
    shapes: Sequence[str], n_slices: Sequence[float], *, least: int = 4
) -> list[str]:
    """Group scans of one geometry; where hardly any two agree, of similar slice count (thirds).

    Parameters
    ----------
    shapes
        Text per scan that tells its grid (shape and voxel size).
    n_slices
        Slice count per scan.
    least
        A group of fewer is no group.
    """
    sizes = {shape: list(shapes).count(shape) for shape in set(shapes)}
    if sum(sizes[shape] >= least for shape in shapes) >= len(shapes) / 2:
        return list(shapes)
    edges = np.quantile(n_slices, [1 / 3, 2 / 3])
    return [f"slices{int(part)}" for part in np.digitize(n_slices, edges)]
