"""From numbers to sentences: what an audit of synthetic slices has to say first."""

from collections.abc import Mapping, Sequence
from typing import Any

from stages.generation.prompts import imbalance_warning
from stages.generation.validation import LAST_STEP
from stages.generation.verdicts import HELD_OUT, SYNTHETIC

LEAST_SHARE = 0.5  # of the real contrast; less is called a mix-up
MOST_OUTLIERS = 0.5
LEAST_ACCURACY = 0.75  # of the network on held-out slices; below, its word is worth little
NO_CAUSE = "no cause known"


def describe_findings(
    table: Sequence[Mapping[str, Any]],
    contrasts: Sequence[Mapping[str, Any]],
    copies: Sequence[Mapping[str, Any]],
    instruments: Mapping[str, Any],
    audit: Mapping[str, Any],
    cards: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Say whether groups are mixed up and why that may be, and whether slices are copies.

    Parameters
    ----------
    table, contrasts, copies
        Rows of ``verdicts.tabulate``, ``verdicts.contrast_rows`` and ``memorisation``.
    instruments
        How well network and densities do on real slices.
    audit
        Of the prompts.
    cards
        Condition → card of its model.
    """
    warnings, notes = [], []
    accuracy = instruments["JudgeBalancedAccuracyHeldOut"]
    if accuracy < LEAST_ACCURACY:
        warnings.append(
            f"The network tells held-out real slices with balanced accuracy {accuracy:.2f} only;"
            " what it calls synthetic slices says little."
        )
    for row in table:
        if row["origin"] == SYNTHETIC and row.get("outlier_rate", 0) > MOST_OUTLIERS:
            warnings.append(
                f"{row['slices']}: {row['outliers']} of {row['n'] + row['outliers']} are outliers"
                " by the rule fixed on held-out real slices; train longer before judging groups."
            )
    for row in contrasts:
        if row["slices"] != SYNTHETIC:
            continue
        condition, share = row["condition"], row["share_of_real"]
        said = (
            f"{condition}, {row['first']} and {row['second']}: prompts move the log-likelihood"
            f" ratio by {row['contrast']:.2f} nats (95 % interval {row['ci_low']:.2f} to"
            f" {row['ci_high']:.2f}), {share:.0%} of what real slices differ by"
        )
        causes = "; ".join(find_causes(row, audit, cards.get(condition, {})))
        if share < LEAST_SHARE or row["ci_low"] <= 0:
            warnings.append(f"Mix-up. {said}. Likely cause: {causes or NO_CAUSE}.")
        elif causes and row["ci_high"] < row["contrast"] / share:  # below that of real slices
            notes.append(f"Less contrast than real slices. {said}. Possible cause: {causes}.")
        else:
            notes.append(f"{said}.")
    for row in copies:
        if row["copies"]:
            warnings.append(
                f"Copies. {row['condition']}: {row['copies']} of {row['n']} synthetic"
                f" {row['compared']} are near copies of training {row['compared']}; do not share"
                f" them. Remedy: {find_remedies(cards.get(row['condition'], {}))}."
            )
    notes += [describe_codec(name, card) for name, card in cards.items() if "Codec" in card]
    right = [
        f"{row['slices']}: {row['right_share_network']:.0%}"
        for row in table
        if row["origin"] == SYNTHETIC and row["n"] and "right_share_network" in row
    ]
    provenance = sorted({card["Provenance"] for card in cards.values()})
    first = warnings[0] if warnings else (notes[0] if notes else "Nothing to compare.")
    return {
        "Headline": f"Synthetic slices ({'; '.join(provenance)}): {first}"
        f" Called the group asked for by the network: {', '.join(right) or 'none is left'}.",
        "Warnings": warnings,
        "Notes": notes,
        "Provenance": "; ".join(provenance),
        "Synthetic": True,
    }


def describe_codec(condition: str, card: Mapping[str, Any]) -> str:
    """Say what no synthetic volume can show, since the codec loses it, and what was judged."""
    lost = card["Codec"]["Reconstruction"][HELD_OUT]
    return (
        f"{condition}: encoded and decoded, held-out brains are off by {lost['brain_rms']:.3f} of"
        f" white (root mean square; the mean of training brains by {lost['brain_baseline']:.3f})."
        f" All slices, real ones too, were cut from volumes of {card['VoxelMm']:g} mm."
    )


def find_causes(
    row: Mapping[str, Any], audit: Mapping[str, Any], card: Mapping[str, Any]
) -> list[str]:
    """List what is known to mix groups up and is the case here."""
    causes = []
    pair = f"{row['condition']}: {row['first']} and {row['second']}"
    if pair in audit["Warnings"]:
        causes.append(audit["Warnings"][pair])
    is_balanced = card.get("Settings", {}).get("balance", True)
    imbalance = imbalance_warning(card.get("TrainingSlices") or audit["TrainingSlices"])
    if imbalance and not is_balanced and card.get("Models") != "separate":
        causes.append(f"{imbalance}, drawn as they are")
    return causes


def find_remedies(card: Mapping[str, Any]) -> str:
    """Say what was not yet done about a model that remembers its training slices."""
    remedies = []
    if not card.get("ValidationFraction"):
        remedies.append("validation_fraction 0.2 with keep best, which stops where memory begins")
    elif any(kept["Why"] == LAST_STEP for kept in card["Kept"]):
        remedies.append("keep best")
    if not (card.get("Augmentation") or "Codec" in card):  # only slices can be moved
        remedies.append("augmentation 1")
    return "; ".join([*remedies, "fewer steps", "more participants"])


def cell_rows(table: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> list[dict[str, Any]]:
    """Turn Table 1 into one row per cell, named as in the published numbers."""
    rows = []
    columns = [f"loglik_{g}" for g in groups] + [f"predicted_{g}" for g in groups]
    for row in table:
        if row.get("origin") == SYNTHETIC:
            where = "_".join(filter(None, (row.get("condition"), row.get("group")))) or "outliers"
            for column in [*columns, "misclassified_likelihood"]:
                if column in row:
                    rows.append({"item": f"{where}_{column}", "value": row[column]})
    return rows
