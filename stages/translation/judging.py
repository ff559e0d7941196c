"""Who may judge whom, and what was found: confusions, rates with intervals, shifts; pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Z_95 = 1.959964


@dataclass(frozen=True)
class Verdict:
    """What one image was taken for.

    ``toward`` is the domain it was translated to; empty for the image as it was. ``probability``
    is that of ``predicted``.
    """

    participant: str
    split: str
    origin: str
    toward: str
    predicted: str
    probability: float


def choose_judges(
    participants: Sequence[str], seen: Mapping[str, frozenset[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Give every participant the models that never saw it.

    Parameters
    ----------
    seen : mapping
        Model → participants who took part in its making in any way.

    Returns
    -------
    judges : dict
        Participant → models.
    overlap : dict
        Model → participants among ours that it has seen.

    Raises
    ------
    ValueError
        Nobody is unknown to any model; lists the overlap.
    """
    judges = {p: [m for m, own in seen.items() if p not in own] for p in participants}
    judges = {p: models for p, models in judges.items() if models}
    overlap = {m: sorted(own & set(participants)) for m, own in seen.items()}
    if not judges:
        listed = "; ".join(f"{m}: {_some(own)}" for m, own in overlap.items())
        raise ValueError(
            "every judge was trained on the participants it is to judge, which proves nothing"
            f" ({listed}); give models of cross-validation folds, or one trained on other people"
        )
    return judges, {m: own for m, own in overlap.items() if own}


def match_classes(classes: Sequence[str], domains: Sequence[str], name: str) -> dict[str, str]:
    """Find which of a model's classes is which domain, by name whatever the case.

    Raises
    ------
    ValueError
        A domain that the model does not know.
    """
    by_name = {own.lower(): own for own in classes}
    lacking = [d for d in domains if d.lower() not in by_name]
    if lacking:
        raise ValueError(
            f"model {name} tells {', '.join(classes)} apart, not {', '.join(lacking)}; name the"
            " domains as its classes (--translation-domains) or train it with the same names"
        )
    return {by_name[d.lower()]: d for d in domains}


def count(verdicts: Sequence[Verdict], domains: Sequence[str]) -> list[dict[str, Any]]:
    """Count verdicts: split, origin, target (n/a before translation), predicted, n.

    ``item`` names the cell as tables of published numbers do.
    """
    cells = Counter((v.split, v.origin, v.toward, v.predicted) for v in verdicts)
    groups = sorted(
        {(v.split, v.origin, v.toward) for v in verdicts}, key=lambda g: (g[0], g[2] != "", g)
    )
    return [
        {
            "item": f"{s}_{o}_{f'to{t}_' if t else ''}judged_{d}",
            "split": s,
            "origin": o,
            "target": t or "n/a",
            "predicted": d,
            "n": cells[s, o, t, d],
        }
        for s, o, t in groups
        for d in domains
    ]


def tabulate(verdicts: Sequence[Verdict], domains: Sequence[str]) -> list[dict[str, Any]]:
    """Lay out the study's Table 1 in both readings of its header, per split.

    Columns as printed: judged old and young before; then two counts after. Reading A, which agrees
    with the study's text: a row is the label before translation, the columns say judged as target
    and judged as origin. Reading B: a row is the domain translated to.
    """
    first, second = domains
    rows = []
    for split in sorted({v.split for v in verdicts}):
        own = [v for v in verdicts if v.split == split]

        def n(origin: str, toward: str, predicted: str, own: Sequence[Verdict] = own) -> int:
            return sum(
                (v.origin, v.toward, v.predicted) == (origin, toward, predicted) for v in own
            )

        for reading in ("A", "B"):
            for label in (second, first):
                other = first if label == second else second
                origin, target = (label, other) if reading == "A" else (other, label)
                rows.append(
                    {
                        "split": split,
                        "reading": reading,
                        "label": label,
                        f"before_{second}": n(label, "", second),
                        f"before_{first}": n(label, "", first),
                        "after_as_target": n(origin, target, target),
                        "after_as_origin": n(origin, target, origin),
                        "translation": f"{origin} to {target}",
                    }
                )
    return rows


def rates(verdicts: Sequence[Verdict], domains: Sequence[str]) -> list[dict[str, Any]]:
    """Compute shares with Wilson's 95 % intervals.

    ``accuracy_before`` per origin; ``effectiveness``: judged as the target after translation;
    ``changed``: of those judged rightly before, judged as the target after; ``same``: translated to
    their own domain, judged as it.
    """
    before = {v.participant: v.predicted for v in verdicts if not v.toward}
    rows = []
    for split in sorted({v.split for v in verdicts}):
        for origin in domains:
            (target,) = (d for d in domains if d != origin)
            own = [v for v in verdicts if v.split == split and v.origin == origin]
            there = [v for v in own if v.toward == target]
            right = [v for v in there if before.get(v.participant) == origin]
            groups = {
                "accuracy_before": [v.predicted == origin for v in own if not v.toward],
                "effectiveness": [v.predicted == target for v in there],
                "changed": [v.predicted == target for v in right],
                "same": [v.predicted == origin for v in own if v.toward == origin],
            }
            for name, hits in groups.items():
                if hits:
                    low, high = wilson(sum(hits), len(hits))
                    rows.append(
                        {
                            "split": split,
                            "origin": origin,
                            "metric": name,
                            "value": sum(hits) / len(hits),
                            "ci_low": low,
                            "ci_high": high,
                            "n": len(hits),
                        }
                    )
    return rows


def shifts(
    values: Mapping[tuple[str, str], float],
    origin_of: Mapping[str, str],
    split_of: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Average how far a quantity moves by translation, (participant, toward) → predicted value.

    Paired differences to the value before, with 95 % intervals of their mean (Student's t).
    """
    from scipy import stats

    rows = []
    for key in sorted({(split_of[p], origin_of[p], t) for p, t in values if t}):
        split, origin, toward = key
        moved = np.array(
            [
                after - values[p, ""]
                for (p, t), after in values.items()
                if t == toward and (split_of[p], origin_of[p]) == (split, origin)
            ]
        )
        n = len(moved)
        half = stats.t.ppf(0.975, n - 1) * moved.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
        rows.append(
            {
                "split": split,
                "origin": origin,
                "metric": f"shift_to{toward}",
                "value": float(moved.mean()),
                "ci_low": float(moved.mean() - half),
                "ci_high": float(moved.mean() + half),
                "n": n,
            }
        )
    return rows


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Compute Wilson's 95 % interval of a share (Wilson 1927).

    >>> tuple(round(x, 3) for x in wilson(17, 20))
    (0.64, 0.948)
    """
    p, z2 = hits / n, Z_95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return shown + (f" and {len(names) - 10} more" if len(names) > 10 else "")
