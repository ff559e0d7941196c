"""Predict voxels from features: penalties chosen on training time, judged on time held out."""

import numpy as np
import torch

from stages.encoding.gram import factorise
from stages.encoding.ridge import correlate, make_operator
from stages.encoding.selection import assign_folds, select_penalties, standardise

PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)


def main() -> tuple[float, float]:
    """Return the median correlation of driven voxels and of voxels that nothing drives."""
    rng = np.random.default_rng(0)
    train, test, features, voxels = 300, 80, 40, 60
    X = rng.normal(size=(train + test, features)).astype(np.float32)
    weights = rng.normal(size=(features, voxels)).astype(np.float32)
    weights[:, voxels // 2 :] = 0  # the second half of the voxels is not driven
    Y = (X @ weights + 6 * rng.normal(size=(train + test, voxels))).astype(np.float32)

    fold = assign_folds(np.zeros(train, dtype=int), folds=4)  # one run, cut into pieces
    chosen = select_penalties(X[:train], Y[:train], fold, PENALTIES)

    seen, held_out = standardise(X[:train], X[train:])
    operator = make_operator(
        factorise(torch.from_numpy(seen)), torch.from_numpy(held_out), PENALTIES, voxels=voxels
    )
    r = correlate(operator, Y[:train], Y[train:])  # (penalties, voxels)
    best = r[chosen.chosen, range(voxels)]
    driven, null = float(np.median(best[: voxels // 2])), float(np.median(best[voxels // 2 :]))
    print(f"median r on held-out time: {driven:.2f} for driven voxels, {null:.2f} for others")
    return driven, null


if __name__ == "__main__":
    main()
