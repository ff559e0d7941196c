"""How mean changes agree with real groups, heat maps and controls; and the sentence about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.translation import evaluation, maps
from stages.translation.people import REAL

Array = NDArray[Any]


def compare_maps(
    x: Array,
    y: Array,
    change: Array,
    splits: tuple[Sequence[str], Sequence[str]],
    tissue: NDArray[np.bool_],
    definitions: Mapping[str, Array],
    *,
    bootstraps: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Correlate mean differences with the t-map of real images, and check the definitions.

    Parameters
    ----------
    x, y : array, (n, slices, 1, …), (m, slices, 1, …)
        Real images of the origin and of the target.
    change : array, (n, slices, 1, …)
        What translation changed in x.
    splits
        train or test, of x and of y.
    tissue : array, (slices, 1, …)
        Where maps are compared.
    definitions
        The difference of means, the mean of differences, the rest, by name.

    Returns
    -------
    rows
        metric, value, n; for some ci_low and ci_high. With those held out alone nothing that was
        trained on enters either map; how the t-maps of both parts agree tells what can be expected.
    """
    t, _ = maps.t_map(y, x)
    is_test = [np.array(own) == "test" for own in splits]
    found: list[dict[str, Any]] = []
    for part, own in (
        ("all", np.ones(len(x), bool)),
        ("train", ~is_test[0]),
        ("test", is_test[0]),
    ):
        if own.sum() < 2:
            continue
        row = {
            "metric": f"r of mean difference and t-map ({part})",
            "value": maps.correlate(change[own].mean(0), t, tissue),
            "n": int(own.sum()),
        }
        if part == "all" and bootstraps:
            low, high = maps.bootstrap_correlation(
                change, y, x, tissue, draws=bootstraps, seed=seed
            )
            row |= {"ci_low": low, "ci_high": high}
        found.append(row)
    if all(2 <= own.sum() <= len(own) - 2 for own in is_test):
        held_out, _ = maps.t_map(y[is_test[1]], x[is_test[0]])
        learned, _ = maps.t_map(y[~is_test[1]], x[~is_test[0]])
        n = int(is_test[0].sum() + is_test[1].sum())
        for name, first in (
            ("mean difference and t-map, both of those held out", change[is_test[0]].mean(0)),
            ("t-maps of those trained on and those held out", learned),
        ):
            value = maps.correlate(first, held_out, tissue)
            found.append({"metric": f"r of {name}", "value": value, "n": n})
    real = y.mean(0) - x.mean(0)
    effect = definitions["difference of means"]
    found.append(
        {
            "metric": "r of mean difference and real difference",
            "value": maps.correlate(effect, real, tissue),
            "n": len(x),
        }
    )
    gap = np.abs(effect - definitions["mean of differences"]).max()
    found.append(
        {
            "metric": "largest gap: difference of means, mean of differences",
            "value": float(gap) / 2,
            "n": len(x),
        }
    )
    rest = np.abs(definitions["mean real target minus mean translated"][tissue]).mean()
    whole = np.abs(real[tissue]).mean()
    found.append(
        {
            "metric": "share of the real difference that translation leaves",
            "value": float(rest / whole),
            "n": len(x),
        }
    )
    each = [maps.correlate(c, t, tissue) for c in change]
    value, low, high, n = maps.mean_interval(np.array(each))
    found.append(
        {
            "metric": "r of one person's difference and t-map",
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "n": n,
        }
    )
    return found


def compare_cams(
    model: str,
    cams: Mapping[str, Array],
    people: Sequence[str],
    change: Array,
    tissue: NDArray[np.bool_],
) -> list[dict[str, Any]]:
    """Compare how much is changed with how hot the heat map is, person by person."""
    pairs = [(np.abs(change[people.index(p)]), cam) for p, cam in cams.items()]
    found: list[dict[str, Any]] = []
    for name, values in (
        ("NCC of |difference| and Grad-CAM", [maps.correlate(a, b, tissue) for a, b in pairs]),
        (
            "overlap of highest tenths (Dice, 0.1 by chance)",
            [maps.overlap_peaks(a, b, tissue) for a, b in pairs],
        ),
    ):
        value, low, high, n = maps.mean_interval(np.array(values))
        found.append(
            {"metric": f"{name}, {model}", "value": value, "ci_low": low, "ci_high": high, "n": n}
        )
    return found


def compare_controls(
    by_pair: Mapping[str, Mapping[str, Array]], target: str, tissue: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Compare what control trainings change with what the real one changes.

    ``by_pair`` has every pair's mean changes, ``test.toOld`` and so on.
    """
    rows: list[dict[str, Any]] = []
    for part in ("test", "train"):
        key = f"{part}.to{target}"
        if REAL not in by_pair or key not in by_pair[REAL]:
            continue
        reference = by_pair[REAL][key]
        for pair, own in by_pair.items():
            if key in own:
                rows.append(
                    {
                        "pair": pair,
                        "split": part,
                        "direction": f"to{target}",
                        "mean_absolute_change": float(np.abs(own[key][tissue]).mean()) / 2,
                        "share_of_real": evaluation.effect_ratio(own[key], reference, tissue),
                        "r_with_real": maps.correlate(own[key], reference, tissue),
                    }
                )
    return rows


def tell(
    direction: str,
    agreement: Sequence[Mapping[str, Any]],
    regions: Sequence[Mapping[str, Any]],
    controls: Sequence[Mapping[str, Any]],
) -> str:
    """Put the findings in a sentence: agreement with the real groups, regions, controls."""
    by_metric = {row["metric"]: row for row in agreement}
    row = by_metric["r of mean difference and t-map (all)"]
    interval = f" ({row['ci_low']:.2f}–{row['ci_high']:.2f})" if "ci_low" in row else ""
    parts = [
        f"{direction}: the mean change goes with the real groups' t-map at r {row['value']:.2f}"
        f"{interval}, n {row['n']}"
    ]
    held_out = by_metric.get("r of mean difference and t-map (test)")
    if held_out:
        parts[0] += f"; of the {held_out['n']} held out r {held_out['value']:.2f}"
    tested = [row for row in regions if "same_sign" in row]
    if tested:
        same = sum(row["same_sign"] == "yes" for row in tested)
        parts.append(f"{same} of {len(tested)} regions change as the real groups differ")
    split = next((row["split"] for row in controls), "")
    shares = [
        f"{row['pair']} {row['share_of_real']:.0%}"
        for row in controls
        if row["pair"] != REAL and row["split"] == split
    ]
    if shares:
        parts.append(f"controls change this much of it: {', '.join(shares)} ({split})")
    return "; ".join(parts) + "."
