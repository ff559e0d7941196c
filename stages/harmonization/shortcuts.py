"""The shortcut audit: what could tell the label other than the brain, and what to think of it.

    A  metadata of the scan alone (logistic regression and gradient boosting)
    B  a small network on the mask of what was scanned
    C  the same network on the images
    D  the same network trained and tested among images of one geometry at a time, beside the same
       network on as many people of each class drawn from all geometries: what is left when geometry
       cannot help. (Beside C itself it would look worse for having fewer images to learn from.)
    E  predictions that change when a head is put into another field of view
    F  p of C's predictions when labels change places within one geometry

An arm FAILs when A or B tells the label (lower bound of balanced accuracy more than 0.10 above
chance) and the network uses it: it loses at least 0.10, and more than its 95 % interval allows for
chance, within one geometry (D), or E is at least 0.10. It gets a WARN when A tells the label at
all, else PASS. A classifier that passes may still be wrong; one that fails cannot be believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.harmonization import estimates
from stages.harmonization.cnn import Array, cross_predict
from stages.harmonization.estimates import Estimate
from stages.harmonization.metadata import ACQUISITION, ANATOMY, encode, predict_label

FAIL, WARN, PASS = "FAIL", "WARN", "PASS"
LEAK, GAP, FLIPS = 0.10, 0.10, 0.10
#: A geometry needs this many of each class to be judged on its own.
LEAST_PER_CLASS = 5
PERMUTATIONS = 1000


@dataclass(frozen=True)
class ArmData:
    """What is audited: one scan per person.

    Attributes
    ----------
    people : list of str
    labels : array, (n,)
        0 … classes-1.
    rows : list of dict
        Rows of the fingerprint.
    strata : list of str
        Geometry of each scan.
    images, supports : array, (n, g, g, g)
    swapped, shifted : array, (n, g, g, g), optional
        See ``views.Views``.
    """

    people: list[str]
    labels: NDArray[np.intp]
    rows: list[dict[str, str]]
    strata: list[str]
    images: Array
    supports: Array
    swapped: Array | None
    shifted: Array | None


@dataclass(frozen=True)
class Evidence:
    """What an audit found; None where there was nothing to look at.

    ``metadata`` (A), ``support`` (B), ``image`` (C), ``constant`` (D) and ``matched`` (C on as many
    people as D) are balanced accuracies, ``gap`` is ``matched`` − ``constant``; ``size`` is that of
    brain volume alone, which is anatomy and no part of the verdict. ``flips`` (E) and
    ``sham_flips`` (of a shift by one slice) are shares of people. ``right`` tells whose label C
    found.
    """

    metadata: Estimate
    size: Estimate | None
    support: Estimate | None
    image: Estimate
    constant: Estimate | None
    matched: Estimate | None
    gap: Estimate | None
    flips: float | None
    sham_flips: float | None
    permutation_p: float
    majority: float
    accuracy: float
    classes: int
    right: dict[str, bool]


def audit_arm(data: ArmData, *, folds: int, epochs: int, seed: int) -> Evidence:
    """Collect the evidence for one arm.

    Raises
    ------
    ValueError
        A class has fewer people than folds, or two people have the same image.
    """
    _check(data, folds)
    labels = data.labels
    rng = np.random.default_rng(seed)

    def estimate(predicted: NDArray[np.intp]) -> Estimate:
        return estimates.bootstrap(labels, predicted, rng)

    def from_columns(columns: Sequence[str]) -> NDArray[np.intp]:
        features = encode(data.rows, columns)
        return predict_label(features, labels, folds=folds, seed=seed).argmax(axis=1)

    def network(images: Array, **variants: Array) -> dict[str, NDArray[np.intp]]:
        return cross_predict(
            images, labels, variants=variants, folds=folds, epochs=epochs, seed=seed
        )

    variants = {
        name: stack
        for name, stack in (("swapped", data.swapped), ("shifted", data.shifted))
        if stack is not None
    }
    seen = network(data.images, **variants)
    support = None
    if np.ptp(data.supports, axis=0).max() > 0:
        support = estimate(network(data.supports)["image"])
    has_size = encode(data.rows, ANATOMY).shape[1] > 0
    constant, matched = _train_within(data, folds=folds, epochs=epochs, rng=rng, seed=seed)
    return Evidence(
        metadata=estimate(from_columns(ACQUISITION)),
        size=estimate(from_columns(ANATOMY)) if has_size else None,
        support=support,
        image=estimate(seen["image"]),
        constant=constant,
        matched=matched,
        gap=matched - constant if matched and constant else None,
        flips=_changed(seen, "swapped"),
        sham_flips=_changed(seen, "shifted"),
        permutation_p=estimates.permute_within(
            labels, seen["image"], data.strata, rng, permutations=PERMUTATIONS
        ),
        majority=estimates.majority_accuracy(labels),
        accuracy=float((seen["image"] == labels).mean()),
        classes=int(labels.max()) + 1,
        right=dict(zip(data.people, (seen["image"] == labels).tolist(), strict=True)),
    )


def judge(evidence: Evidence) -> tuple[str, str]:
    """Give the verdict on an arm and the sentence that explains it."""
    chance = 1 / evidence.classes
    a, b, c, gap = evidence.metadata, evidence.support, evidence.image, evidence.gap
    leaks = [
        f"{name} alone tells it with {found}"
        for name, found in (("metadata", a), ("the field of view", b))
        if found is not None and found.low > chance + LEAK
    ]
    uses = []
    if gap is not None and gap.value >= GAP - 1e-9 and gap.low > 0:
        uses.append(f"it loses {gap} where all images have one geometry")
    if evidence.flips is not None and evidence.flips >= FLIPS - 1e-9:
        uses.append(f"{evidence.flips:.0%} of predictions change in another field of view")
    told = f"the image network reaches {c}"
    if leaks and uses:
        return FAIL, f"{'; '.join(leaks)}; {told}, and {'; '.join(uses)}"
    if a.low > chance or leaks:
        return WARN, f"{'; '.join(leaks) or f'metadata tells something ({a})'}; {told}"
    doubt = ""
    if a.high > chance + LEAK:
        doubt = f"; {a.n} people are too few to exclude a leak of up to {a.high:.2f}"
    return PASS, f"metadata tells nothing ({a}){doubt}; {told}"


def _train_within(
    data: ArmData, *, folds: int, epochs: int, rng: np.random.Generator, seed: int
) -> tuple[Estimate | None, Estimate | None]:
    """Train within each geometry, and on as many people of each class from all geometries.

    Averages over the geometries that have enough of each class; None where none has, or where all
    images share one.
    """
    strata = np.asarray(data.strata)
    within: list[Estimate] = []
    across: list[Estimate] = []
    for stratum in sorted(set(data.strata)) if len(set(data.strata)) > 1 else []:
        members = np.flatnonzero(strata == stratum)
        count = np.bincount(data.labels[members], minlength=int(data.labels.max()) + 1)
        if count.min() < max(LEAST_PER_CLASS, folds):
            continue
        drawn = np.concatenate(
            [
                rng.choice(np.flatnonzero(data.labels == c), size=n, replace=False)
                for c, n in enumerate(count)
            ]
        )
        for people, found in ((members, within), (drawn, across)):
            labels = data.labels[people]
            predicted = cross_predict(
                data.images[people], labels, variants={}, folds=folds, epochs=epochs, seed=seed
            )["image"]
            found.append(estimates.bootstrap(labels, predicted, rng))
    return _average(within), _average(across)


def _average(parts: Sequence[Estimate]) -> Estimate | None:
    """Average independent estimates by their size; squared half-widths add."""
    if not parts:
        return None
    total = sum(part.n for part in parts)
    weight = np.array([part.n for part in parts]) / total
    value = float(weight @ [part.value for part in parts])
    down = float(np.sqrt(weight**2 @ np.square([p.value - p.low for p in parts])))
    up = float(np.sqrt(weight**2 @ np.square([p.high - p.value for p in parts])))
    return Estimate(value, value - down, value + up, total)


def _changed(seen: dict[str, NDArray[np.intp]], name: str) -> float | None:
    return float((seen[name] != seen["image"]).mean()) if name in seen else None


def _check(data: ArmData, folds: int) -> None:
    count = np.bincount(data.labels)
    if len(count) < 2 or count.min() < folds:
        raise ValueError(
            f"classes of {', '.join(map(str, count))} people, at least {folds} (folds) each needed;"
            " ask for fewer folds or a larger cohort"
        )
    first: dict[bytes, str] = {}
    for person, image in zip(data.people, data.images, strict=True):
        twin = first.setdefault(image.tobytes(), person)
        if twin != person:
            raise ValueError(f"{person} and {twin} have the same image; leave one of them out")
