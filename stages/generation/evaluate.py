"""Step evaluate: judge the synthetic slices beside held-out and training real ones."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from stages.generation import figures, verdicts
from stages.generation.anatomy import compare_anatomy
from stages.generation.build import read_card
from stages.generation.findings import cell_rows, describe_findings
from stages.generation.generator import STABLE_DIFFUSION
from stages.generation.instruments import (
    Instruments,
    Slices,
    make_instruments,
    read_real,
    read_samples,
)
from stages.generation.judge import balanced_accuracy, score, train_judge
from stages.generation.memorisation import audit_copies
from stages.generation.provenance import REAL
from stages.generation.similarity import (
    frechet_distance,
    kernel_distance,
    manifold_scores,
    mean_ms_ssim,
)
from stages.generation.slices import SIZE, Pixels, load_stack
from stages.generation.tables import Row, read_rows, write_rows
from stages.generation.verdicts import HELD_OUT, SYNTHETIC, TRAINING, Judged, name_blurred
from stages.generation.volumes import load_brains
from stages.generation.whole import audit_wholes

logger = logging.getLogger(__name__)

SHOWN = 8


def run(
    *,
    cohort: str,
    stack: str,
    audited: str,
    samples: list[str],
    tables: list[str],
    cards: list[str],
    brains: str | None,
    volumes: list[str],
    decoded: list[str],
    verdict: str,
    table1: str,
    cells: str,
    tests: str,
    contrasts: str,
    outliers: str,
    similarity: str,
    memorisation: str,
    copies: str,
    anatomy: str,
    judge: str,
    examples: str,
    ratios: str,
    neighbours: str,
    planes: str,
    evaluation_size: int,
    components: int,
    judge_epochs: int,
    redraws: int,
    seed: int,
) -> None:
    """Write all tables, figures and the verdict."""
    train, held_out = read_real(cohort, load_stack(stack))
    made = read_samples(samples, tables)
    known = {card["Condition"]: card for card in map(read_card, cards)}
    audit = json.loads(Path(audited).read_text(encoding="utf-8"))
    groups = list(audit["TrainingSlices"])
    sizes = sorted({card["Size"] for card in known.values() if card["Size"]} - {SIZE})
    variants = {name_blurred(size): held_out.at(size) for size in sizes if size < SIZE}
    whole = load_brains(brains) if brains and all("VoxelMm" in c for c in known.values()) else None
    if whole:  # like is compared with like: the real slices are cut from volumes too
        variants = {f"{HELD_OUT} at 1 mm": held_out}
        train, held_out = read_real(cohort, whole.slices())
        lossy = load_brains(decoded[0])  # all conditions train the same codec
        learnt, new = read_real(cohort, lossy.slices())
        variants[f"{HELD_OUT} through the codec"] = new
    tools, about = make_instruments(
        train, held_out, groups, evaluation_size, components, judge_epochs, seed
    )
    judged = judge_all(tools, train, held_out, made, variants)
    cuts = verdicts.find_cuts(judged, groups)
    table = verdicts.tabulate(judged, groups, cuts)
    compared = verdicts.contrast_rows(judged, groups, redraws=redraws, seed=seed)
    likeness = compare_sets(tools, train, held_out, made, judge_epochs, seed)
    seen = {name: card["TrainingParticipants"] for name, card in known.items()}
    # A codec blurs what a model remembers, so copies are sought among what it leaves of people.
    sought = (learnt, new) if whole else (train, held_out)
    audits, near, pairs = find_copies(tools, *sought, made, seen, redraws, seed)
    shapes = compare_anatomy(train, held_out, made, groups, variants)
    if whole:
        more = audit_wholes(
            whole, lossy, cohort, volumes, tables, seen, groups, redraws=redraws, seed=seed
        )
        audits, near, shapes = audits + more.audits, near + more.near, shapes + more.sizes

    write_rows(table1, table)
    origin = read_rows(cohort)[0]["origin"]
    is_study = origin == REAL and all(card["Kind"] == STABLE_DIFFUSION for card in known.values())
    if known and is_study:  # nothing else may stand beside published numbers
        write_rows(cells, cell_rows(table, groups))
    write_rows(tests, verdicts.fisher_tests(judged, groups))
    write_rows(contrasts, compared)
    failed = list_outliers(judged, made, groups)
    if failed:
        write_rows(outliers, failed)
    write_rows(similarity, likeness)
    write_rows(memorisation, audits)
    if near:
        write_rows(copies, near)
    write_rows(anatomy, shapes)
    about |= {"BalancedThresholds": cuts, "Groups": groups, "Size": evaluation_size}
    Path(judge).write_text(json.dumps(about, indent=2), encoding="utf-8")
    findings = describe_findings(table, compared, audits, about, audit, known)
    Path(verdict).write_text(json.dumps(findings, indent=2), encoding="utf-8")
    logger.info("%s", findings["Headline"])
    note = f"synthetic slices: {findings['Provenance']}; all others: {origin} scans"
    _draw(examples, ratios, neighbours, judged, held_out, made, pairs, cuts, groups, note)
    if whole:
        figures.draw_rows(planes, more.rows, "Volumes: coronal, axial, sagittal", note=note)


def judge_all(
    tools: Instruments,
    train: Slices,
    held_out: Slices,
    made: dict[str, tuple[Slices, list[Row]]],
    variants: dict[str, Slices],
) -> list[Judged]:
    """Judge synthetic slices and every reference that they are to be read against.

    References: held-out real slices; variants of these, such as through the model's resolution, for
    what smoothing does; training slices, and the same each left out of its own density.
    """
    judged = [
        tools.judge_slices(slices.of(group), SYNTHETIC, condition, group)
        for condition, (slices, _) in made.items()
        for group in tools.groups
        if (slices.groups == group).any()
    ]
    for group in tools.groups:
        judged.append(tools.judge_slices(held_out.of(group), HELD_OUT, "", group))
    for name, slices in variants.items():
        for group in tools.groups:
            judged.append(tools.judge_slices(slices.of(group), name, "", group))
    for number, group in enumerate(tools.groups):
        plain = tools.judge_slices(train.of(group), TRAINING, "", group)
        alone = plain.log_likelihood.copy()
        alone[:, number] = tools.densities[number].leave_one_out()
        judged.append(plain)
        judged.append(
            Judged(
                f"{TRAINING}, left out of its density",
                "",
                group,
                alone,
                plain.log_probability,
                plain.is_outlier,
            )
        )
    return judged


def compare_sets(
    tools: Instruments,
    train: Slices,
    held_out: Slices,
    made: dict[str, tuple[Slices, list[Row]]],
    epochs: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Compare sets with training slices, and say what a network learns from them."""
    truth = np.array([tools.groups.index(g) for g in held_out.groups])
    sets = {f"{SYNTHETIC} ({c})": slices for c, (slices, _) in made.items()}
    sets |= {HELD_OUT: held_out, TRAINING: train}
    rows = []
    for name, slices in sets.items():
        for group in ("all", *tools.groups):
            some, real = (s.pixels if group == "all" else s.of(group) for s in (slices, train))
            row: dict[str, Any] = {"slices": name, "group": group, "n": len(some)}
            if len(some) > 1 and len(real) > 1:
                x, y = tools.score(real)[1], tools.score(some)[1]
                row["fid_judge"] = frechet_distance(x, y)
                row["kid_judge"] = kernel_distance(x, y)
                row |= manifold_scores(x, y)
                row["ms_ssim"] = mean_ms_ssim(tools.images(some), seed=seed)
            if group == "all" and name != HELD_OUT:
                numbers = np.array([tools.groups.index(g) for g in slices.groups])
                learnt = train_judge(
                    tools.images(some), numbers, groups=len(tools.groups), epochs=epochs, seed=seed
                )
                predicted = score(learnt, tools.images(held_out.pixels))[0].argmax(1)
                row["trained_on_it_held_out_accuracy"] = balanced_accuracy(truth, predicted)
            rows.append(row)
    return rows


def find_copies(
    tools: Instruments,
    train: Slices,
    held_out: Slices,
    made: dict[str, tuple[Slices, list[Row]]],
    seen: dict[str, list[str]],
    redraws: int,
    seed: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[tuple[Pixels, Pixels]]]:
    """Look for copies; also give the closest pairs, synthetic and training slice.

    ``seen`` lists whom each condition's model was trained on; without validation people, that is.
    """
    H = tools.rows(held_out.pixels)
    audits, near = [], []
    pairs: list[tuple[float, Pixels, Pixels]] = []
    for condition, (slices, rows) in made.items():
        people = np.array([f"bids::{person}" for person in train.people])
        was_seen = np.isin(people, seen[condition])
        own, names = train.pixels[was_seen], train.people[was_seen]
        numbers, is_copy, place, distance = audit_copies(
            tools.rows(slices.pixels), tools.rows(own), H, redraws=redraws, seed=seed
        )
        audits.append({"condition": condition, "compared": "slices", **numbers})
        for i in np.flatnonzero(is_copy):
            near.append(
                {
                    "condition": condition,
                    "compared": "slices",
                    "group": rows[i]["group"],
                    "image": rows[i]["image"],
                    "training_participant": names[place[i]],
                    "rms": float(distance[i]),
                }
            )
        for i in np.argsort(distance)[:SHOWN]:
            pairs.append((float(distance[i]), slices.pixels[i], own[place[i]]))
    closest = sorted(pairs, key=lambda pair: pair[0])[:SHOWN]
    return audits, near, [(a, b) for _, a, b in closest]


def list_outliers(
    judged: list[Judged], made: dict[str, tuple[Slices, list[Row]]], groups: list[str]
) -> list[dict[str, Any]]:
    """List the synthetic slices that failed."""
    found = []
    for item in judged:
        if item.origin == SYNTHETIC:
            rows = [row for row in made[item.condition][1] if row["group"] == item.group]
            for i in np.flatnonzero(item.is_outlier):
                row = {"condition": item.condition, "group": item.group, "image": rows[i]["image"]}
                found.append(
                    row
                    | {
                        f"loglik_{g}": float(item.log_likelihood[i, k])
                        for k, g in enumerate(groups)
                    }
                )
    return found


def _draw(
    examples: str,
    ratios: str,
    neighbours: str,
    judged: list[Judged],
    held_out: Slices,
    made: dict[str, tuple[Slices, list[Row]]],
    pairs: list[tuple[Pixels, Pixels]],
    cuts: dict[str, float | None],
    groups: list[str],
    note: str,
) -> None:
    rows = {f"held out: {g}": list(held_out.of(g)[:SHOWN]) for g in groups}
    for condition, (slices, table) in made.items():
        texts = {row["group"]: row["prompt"] for row in table}
        for group, text in texts.items():
            rows[f"synthetic, {condition}: {text}"] = list(slices.of(group)[:SHOWN])
    figures.draw_rows(examples, rows, "Held-out and synthetic slices", note=note)
    values = {
        item.name: item.log_likelihood[:, 0] - item.log_likelihood[:, 1]
        for item in judged
        if len(groups) > 1
    }
    figures.draw_ratios(ratios, values, cuts["likelihood"], groups, note=note)
    figures.draw_rows(
        neighbours,
        {"synthetic": [a for a, _ in pairs], "nearest training": [b for _, b in pairs]},
        "Closest to training slices",
        note=note,
    )
