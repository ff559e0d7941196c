"""Held-out test and folds, dealt so that label, cohort, site and age are spread evenly.

People are sorted by these in turn, equals in random order, and dealt like cards. Within each group
of neighbours the parts then differ by at most one person, however many groups there are, which
splitting each stratum on its own cannot promise for strata smaller than the number of folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

TEST = "test"
TRAIN = "train"


def deal(
    strata: Sequence[Sequence[str]],
    order: Sequence[float],
    parts: int,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """Deal people into parts.

    Parameters
    ----------
    strata
        Per person what must be spread evenly, the most important first.
    order
        A number per person that is spread as well (age); NaN where unknown.
    parts
        How many parts.
    rng
        Decides among equals.

    Returns
    -------
    array, (n,)
        Part of each person, 0 … parts-1.
    """
    shuffle = rng.permutation(len(strata))
    value = np.nan_to_num(np.asarray(order, dtype=float), nan=np.inf)
    ranked = sorted(range(len(strata)), key=lambda i: (*strata[i], value[i], shuffle[i]))
    part = np.empty(len(strata), dtype=np.intp)
    part[ranked] = np.arange(len(strata)) % parts
    return part


def split(
    strata: Sequence[Sequence[str]],
    order: Sequence[float],
    *,
    test_fraction: float,
    folds: int,
    rng: np.random.Generator,
) -> tuple[list[str], list[int | None]]:
    """Hold a fraction out for the test and deal the others into folds.

    Returns
    -------
    split : list of str
        ``train`` or ``test``.
    fold : list of int or None
        0 … folds-1; None in the test.

    Raises
    ------
    ValueError
        Fewer people in a class (the first stratum) than folds.
    """
    everyone = np.arange(len(strata))
    is_test = np.zeros(len(strata), dtype=bool)
    if test_fraction > 0:
        # Every m-th card of the sorted deck: evenly spread over all strata, unlike a random pick.
        hands = deal(strata, order, len(strata), rng)
        number = round(test_fraction * len(strata))
        step = np.floor((np.arange(number) + 0.5) * len(strata) / max(number, 1)).astype(int)
        is_test[np.isin(hands, step)] = True
    rest = everyone[~is_test]
    classes = [strata[i][0] for i in rest]
    for name in sorted({s[0] for s in strata}):
        if classes.count(name) < folds:
            raise ValueError(
                f"class {name!r} has {classes.count(name)} participants to train on, fewer than"
                f" {folds} folds; ask for fewer folds or a smaller test fraction"
            )
    dealt = deal([strata[i] for i in rest], [order[i] for i in rest], folds, rng)
    fold: list[int | None] = [None] * len(strata)
    for person, number in zip(rest.tolist(), dealt.tolist(), strict=True):
        fold[person] = number
    return [TEST if test else TRAIN for test in is_test], fold


def check_balance(
    columns: Mapping[str, Sequence[str]], groups: Sequence[str]
) -> list[dict[str, Any]]:
    """Test for each column whether it differs between groups of people.

    Numbers by analysis of variance (for two groups the t test's p), words by χ² of the table.

    Parameters
    ----------
    columns
        Name → a value per person; empty or ``n/a`` is left out.
    groups
        Group of each person; empty is left out.

    Returns
    -------
    list of dict
        ``column``, ``test``, ``statistic``, ``p``, ``n`` and ``groups`` (mean or counts by group).
    """
    rows = []
    for name, values in columns.items():
        known = [
            (value, group)
            for value, group in zip(values, groups, strict=True)
            if value not in ("", "n/a") and group not in ("", "n/a")
        ]
        kinds = sorted({group for _, group in known})
        if len(kinds) < 2:
            continue
        numbers = [_number(value) for value, _ in known]
        if all(number is not None for number in numbers) and len(set(numbers)) > 2:
            samples = [
                np.array([n for n, (_, g) in zip(numbers, known, strict=True) if g == kind], float)
                for kind in kinds
            ]
            test, result = "anova", stats.f_oneway(*samples)
            told = "; ".join(f"{k} {s.mean():.3g}" for k, s in zip(kinds, samples, strict=True))
        else:
            words = sorted({value for value, _ in known})
            table = np.array([[known.count((w, k)) for w in words] for k in kinds])
            if len(words) < 2:
                continue
            test, result = "chi2", stats.chi2_contingency(table, correction=False)
            told = "; ".join(
                f"{k} {' '.join(f'{w}:{n}' for w, n in zip(words, row, strict=True))}"
                for k, row in zip(kinds, table, strict=True)
            )
        rows.append(
            {
                "column": name,
                "test": test,
                "statistic": float(result[0]),
                "p": float(result[1]),
                "n": len(known),
                "groups": told,
            }
        )
    return rows


def find_duplicates(keys: Sequence[str]) -> dict[int, int]:
    """Find people whose image somebody before them has, position → position of the first.

    Empty keys (unknown) match nothing.

    >>> find_duplicates(["a", "b", "a", "", ""])
    {2: 0}
    """
    first: dict[str, int] = {}
    found = {}
    for position, key in enumerate(keys):
        if key and first.setdefault(key, position) != position:
            found[position] = first[key]
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
