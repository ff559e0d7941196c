"""Predictions of all folds → one judgement per image: held-out folds, test set, training images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.classifier.tables import Row, read_rows

SETS = {"fold": "cv", "test": "test", "train": "train"}  # as trained → as reported
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """What one network of one arm said of the images of one set.

    Attributes
    ----------
    people, true, values
        A row per image: its participant; the class's number or the quantity; probabilities
        (n, k) or predictions (n,). A test image judged by several folds has their mean.
    classes
        Names; empty for a quantity.
    """

    target: str
    arm: str
    network: str
    set: str
    people: tuple[str, ...]
    true: Array
    values: Array
    classes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Arm and network."""
        return f"{self.arm} {self.network}"

    @property
    def labels(self) -> NDArray[np.intp]:
        """Classes' numbers."""
        return self.true.astype(np.intp)


def read_key(path: str | Path) -> dict[str, str]:
    """Read target, arm, network and fold from a model's folder.

    >>> read_key("models/target-sex_arm-resize_net-bn_fold-0/predictions.tsv")["net"]
    'bn'
    """
    pairs = Path(path).parent.name.split("_")
    return dict(pair.split("-", 1) for pair in pairs if "-" in pair)


def gather(paths: Sequence[str]) -> list[Judged]:
    """Join the folds' tables by target, arm and network.

    Raises
    ------
    ValueError
        An image that two folds held out: folds of different runs are mixed.
    """
    groups: dict[tuple[str, str, str], list[tuple[str, list[Row]]]] = {}
    for path in sorted(paths):
        key = read_key(path)
        found = groups.setdefault((key["target"], key["arm"], key["net"]), [])
        found.append((path, read_rows(path)))
    judged = []
    for (target, arm, network), tables in sorted(groups.items()):
        first = tables[0][1][0]
        classes = tuple(k[2:] for k in first if k.startswith("p_"))
        for own, name in SETS.items():
            rows: dict[str, list[Row]] = {}
            for path, table in tables:
                for row in table:
                    if row["set"] != own:
                        continue
                    same = rows.setdefault(row["filename"], [])
                    if own == "fold" and same:
                        raise ValueError(
                            f"{path}: {row['filename']} was held out by another fold already;"
                            " delete the models of earlier runs or train all folds again"
                        )
                    same.append(row)
            if rows:
                judged.append(_join(rows, (target, arm, network, name), classes))
    return judged


def _join(
    rows: Mapping[str, Sequence[Row]], key: tuple[str, str, str, str], classes: tuple[str, ...]
) -> Judged:
    people, true, values = [], [], []
    for _, same in sorted(rows.items()):
        people.append(same[0]["participant_id"])
        label = same[0]["label"]
        true.append(float(classes.index(label) if classes else label))
        if classes:
            p = np.mean([[float(row[f"p_{c}"]) for c in classes] for row in same], axis=0)
            values.append(p / p.sum())
        else:
            values.append(np.mean([float(row["predicted"]) for row in same]))
    return Judged(*key, tuple(people), np.array(true), np.array(values), classes)
