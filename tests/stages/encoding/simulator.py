"""Planted voxels: shots of a movie drive voxels after a known delay, with known noise.

Shots last 1–5 s and hold 64 features that are not negative, at 20 frames per second; TR 2 s; the
first ``driven`` voxels respond with graded strength, the others are noise. Noise is autocorrelated
(AR(1), 0.3), as BOLD noise is.
"""

from dataclasses import dataclass

import numpy as np

from stages.encoding.delays import Shown

RATE_HZ = 20.0
TR_S = 2.0
LEAD_S = 20.0  # shown before the first volume that is kept


@dataclass(frozen=True)
class Simulation:
    """Training runs and repeats of one test run, with the truth."""

    train: list[Shown]
    test: Shown
    Y: np.ndarray  # (training samples, voxels)
    runs: np.ndarray
    repeats: np.ndarray  # (repeats, test samples, voxels)
    true_ceiling: np.ndarray  # (voxels,), correlation of signal with the repeats' mean
    driven: int

    def times(self, samples: int) -> np.ndarray:
        return LEAD_S + np.arange(samples) * TR_S


def simulate(
    *,
    response: str,
    seed: int = 0,
    volumes: int = 120,
    runs: int = 5,
    test_volumes: int = 150,
    repeats: int = 4,
    driven: int = 300,
    null: int = 100,
    features: int = 64,
) -> Simulation:
    """Make data whose voxels answer by a pure ``delay`` of 4 s or the canonical ``hrf``."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((features, driven)) / np.sqrt(features)
    strength = np.linspace(0.3, 2.0, driven)

    def movie(length: int) -> Shown:
        frames = int((LEAD_S + length * TR_S) * RATE_HZ)
        rows = []
        while sum(map(len, rows)) < frames:
            shot = np.maximum(rng.standard_normal(features), 0)
            rows.append(np.repeat(shot[None], int(rng.uniform(1, 5) * RATE_HZ), axis=0))
        return Shown("movie", 0.0, frames / RATE_HZ, RATE_HZ, np.vstack(rows)[:frames].astype("f4"))

    def signal(shown: Shown, length: int) -> np.ndarray:
        at = ((LEAD_S + np.arange(length) * TR_S) * RATE_HZ).round().astype(int)
        if response == "delay":
            clean = shown.features[at - int(4 * RATE_HZ)] @ weights
        else:
            kernel = canonical_hrf(np.arange(0, LEAD_S, 1 / RATE_HZ))
            drive = shown.features @ weights
            padded = np.vstack([np.zeros((len(kernel) - 1, driven)), drive])
            clean = np.stack([kernel[::-1] @ padded[t : t + len(kernel)] for t in at])
        clean = (clean - clean.mean(0)) / clean.std(0) * strength
        return np.hstack([clean, np.zeros((length, null))])

    def noise(length: int) -> np.ndarray:
        values = rng.standard_normal((length, driven + null))
        for t in range(1, length):
            values[t] = 0.3 * values[t - 1] + np.sqrt(1 - 0.09) * values[t]
        return values

    train = [movie(volumes) for _ in range(runs)]
    Y = np.vstack([signal(shown, volumes) + noise(volumes) for shown in train])
    test = movie(test_volumes)
    clean = signal(test, test_volumes)
    repeated = np.stack([clean + noise(test_volumes) for _ in range(repeats)])
    power = np.concatenate([strength**2, np.zeros(null)])
    return Simulation(
        train=train,
        test=test,
        Y=Y.astype("f4"),
        runs=np.repeat(np.arange(runs), volumes),
        repeats=repeated.astype("f4"),
        true_ceiling=np.sqrt(power / (power + 1 / repeats)),
        driven=driven,
    )


def canonical_hrf(seconds: np.ndarray) -> np.ndarray:
    """The double gamma of SPM: peak near 5 s, undershoot near 15 s, sum 1."""
    from scipy.stats import gamma

    kernel = gamma.pdf(seconds, 6) - gamma.pdf(seconds, 16) / 6
    return kernel / kernel.sum()
