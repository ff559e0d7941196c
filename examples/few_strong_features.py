"""AdaBoost with stumps: how the area under the ROC curve grows with the number of weak learners."""

import numpy as np

from stages.transfer.booster import fit_stumps

SHOWN = (1, 5, 20, 80)


def area(truth: np.ndarray, score: np.ndarray) -> float:
    """Compute the area under the ROC curve: how often a positive has the higher score."""
    positive, negative = score[truth], score[~truth]
    higher = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
    return float(higher.mean())


def main() -> dict[str, list[float]]:
    """Return areas on held-out cases by number of stumps, for two kinds of features."""
    rng = np.random.default_rng(0)
    n, features = 600, 60
    lesion = rng.random(n) < 0.3
    few = rng.normal(size=(n, features))
    few[:, :3] += 1.6 * lesion[:, None]  # three features that tell much
    many = rng.normal(size=(n, features)) + 0.27 * lesion[:, None]  # all tell a little
    found = {}
    for name, X in (("few strong", few), ("many weak", many)):
        stumps = fit_stumps(X[:400], lesion[:400], max(SHOWN))
        scores = stumps.stage(X[400:])  # (cases, rounds)
        found[name] = [area(lesion[400:], scores[:, t - 1]) for t in SHOWN]
        told = ", ".join(f"{a:.2f} with {t}" for a, t in zip(found[name], SHOWN, strict=True))
        print(f"{name} features: area {told}")
    return found


if __name__ == "__main__":
    main()
