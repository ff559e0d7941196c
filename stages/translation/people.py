"""Who is in which group, who trains and who is held out; and whether the groups are alike else."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from stages.translation.tables import Row, number

BALANCED = ("sex", "site")  # what should not differ between the groups
SITE_NAMES = ("site", "scanner", "center", "centre", "institution")
WARN_BELOW = 0.05
NULL, SHUFFLED, REAL = "null", "shuffled", "classes"


def assign_domains(
    people: Mapping[str, Row], *, column: str, bounds: str, domains: Sequence[str]
) -> dict[str, str]:
    """Put participants into one of two domains; who fits neither is left out.

    Parameters
    ----------
    people
        Participant → row of participants.tsv.
    column
        What divides them.
    bounds
        ``45,50``: below 45 is the first domain, from 50 on the second; empty: the column's values
        are the domains' names.

    Raises
    ------
    ValueError
        Not two domains, no such column, bounds that are none, or a domain without participants.
    """
    if len(domains) != 2 or domains[0].lower() == domains[1].lower():
        raise ValueError(f"domains {' '.join(domains)}: give two different names")
    for name in domains:
        if not name.isalnum():
            raise ValueError(f"domain {name!r}: give letters and digits only, it names files")
    known = list(dict.fromkeys(key for row in people.values() for key in row))
    if column not in known:
        near = difflib.get_close_matches(column, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"participants.tsv: no column {column!r}{hint}; columns: {', '.join(known)}"
        )
    cells = {name: row.get(column, "n/a") for name, row in people.items()}
    if bounds:
        low, high = _read_bounds(bounds)
        found = {name: _by_bounds(number(cell), low, high, domains) for name, cell in cells.items()}
    else:
        names = {domain.lower(): domain for domain in domains}
        found = {name: names.get(cell.lower(), "") for name, cell in cells.items()}
    for domain in domains:
        if domain not in found.values():
            values = Counter(cells.values()).most_common(6)
            listed = ", ".join(f"{value} ({count})" for value, count in values)
            raise ValueError(
                f"domain {domain!r} is empty: no participant with images has {column} that fits;"
                f" found {listed}; change --translation-column, -bounds or -domains"
            )
    return {name: domain for name, domain in found.items() if domain}


def draw_cohort(
    domain_of: Mapping[str, str],
    people: Mapping[str, Row],
    *,
    domains: Sequence[str],
    n_train: int,
    n_test: int,
    test_fraction: float,
    seed: int,
) -> dict[str, str]:
    """Draw who trains and who tests, per domain, spread over sex, site and age: train or test.

    With ``n_train`` > 0 so many train and ``n_test`` test; if a domain has fewer participants, both
    shrink alike in both domains. With 0 everybody takes part and ``test_fraction`` test.
    """
    rng = np.random.default_rng(seed)
    members = {d: sorted(p for p, own in domain_of.items() if own == d) for d in domains}
    smallest = min(len(m) for m in members.values())
    if n_train:
        share = min(1.0, smallest / (n_train + n_test))
        sizes = {d: (round(n_train * share), math.floor(n_test * share)) for d in domains}
    else:
        sizes = {}
        for d, m in members.items():
            test = round(test_fraction * len(m))
            sizes[d] = (len(m) - test, test)
    split = {}
    for d in domains:
        order = _spread(members[d], people, rng)
        train, test = sizes[d]
        # Evenly spaced along an order by sex, site and age: every part looks like the whole.
        chosen = [order[i] for i in _even(len(order), train + test)]
        is_test = set(_even(len(chosen), test))
        for i, name in enumerate(chosen):
            split[name] = "test" if i in is_test else "train"
    return split


def control_domains(
    domain_of: Mapping[str, str],
    split: Mapping[str, str],
    people: Mapping[str, Row],
    *,
    domains: Sequence[str],
    seed: int,
) -> dict[str, dict[str, str]]:
    """Make the controls' groups: pair → participant → domain.

    ``null``: two halves of the larger domain, which do not differ. ``shuffled``: both domains mixed
    and dealt anew, half of each to each.
    """
    rng = np.random.default_rng([seed, 1])
    pairs: dict[str, dict[str, str]] = {NULL: {}, SHUFFLED: {}}
    larger = max(domains, key=lambda d: sum(domain_of[p] == d for p in split))
    for part in ("train", "test"):
        for d in domains:
            names = sorted(p for p in split if domain_of[p] == d and split[p] == part)
            order = _spread(names, people, rng)
            first = int(rng.integers(2))
            for i, name in enumerate(order):
                pairs[SHUFFLED][name] = domains[(i + first) % 2]
                if d == larger:
                    pairs[NULL][name] = domains[(i + first) % 2]
    return pairs


def compare_groups(
    domain_of: Mapping[str, str],
    split: Mapping[str, str],
    people: Mapping[str, Row],
    domains: Sequence[str],
) -> list[dict[str, Any]]:
    """Test whether sex and site are spread alike over the domains.

    Returns
    -------
    rows
        Per column and domain the counts, with p of Fisher's exact test (two values) or a χ² test.
        What differs between the groups is translated with what is meant.
    """
    rows = []
    for column in balance_columns(people):
        values = sorted({people[p].get(column, "n/a") for p in split})
        counts = np.array(
            [
                [
                    sum(domain_of[p] == d and people[p].get(column) == v for p in split)
                    for v in values
                ]
                for d in domains
            ]
        )
        p = _independence(counts)
        for d, own in zip(domains, counts, strict=True):
            listed = ", ".join(f"{v} {n}" for v, n in zip(values, own, strict=True))
            rows.append({"column": column, "domain": d, "counts": listed, "p": p})
    return rows


def balance_columns(people: Mapping[str, Row]) -> list[str]:
    """Find the columns of sex and site, whatever the case of their names."""
    known = list(dict.fromkeys(key for row in people.values() for key in row))
    return [key for key in known if key.lower() == "sex" or key.lower() in SITE_NAMES]


def _independence(counts: Any) -> float:
    counts = counts[:, counts.sum(0) > 0]
    if counts.shape[1] < 2:
        return math.nan
    if counts.shape == (2, 2):
        return float(stats.fisher_exact(counts)[1])
    return float(stats.chi2_contingency(counts)[1])


def _read_bounds(bounds: str) -> tuple[float, float]:
    parts = [number(part) for part in bounds.split(",")]
    if len(parts) != 2 or any(math.isnan(p) for p in parts) or parts[0] > parts[1]:
        raise ValueError(f"bounds {bounds!r}: give two ascending numbers, such as 45,50")
    return parts[0], parts[1]


def _by_bounds(value: float, low: float, high: float, domains: Sequence[str]) -> str:
    if value < low:
        return domains[0]
    return domains[1] if value >= high else ""


def _spread(names: Sequence[str], people: Mapping[str, Row], rng: np.random.Generator) -> list[str]:
    """Shuffle, then sort by site, sex and age, so that neighbours are alike."""
    columns = balance_columns(people)
    shuffled = [names[i] for i in rng.permutation(len(names))]

    def key(name: str) -> tuple[Any, ...]:
        row = people[name]
        age = number(row.get("age", "n/a"))
        return (*(row.get(c, "n/a") for c in columns), -1.0 if math.isnan(age) else age)

    return sorted(shuffled, key=key)


def _even(n: int, k: int) -> list[int]:
    """Choose k of n places at equal distances."""
    return [int((i + 0.5) * n / k) for i in range(k)]
