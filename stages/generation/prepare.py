"""Step prepare: form the groups, split participants, scale slices, write and audit prompts."""

import hashlib
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from stages.generation import figures
from stages.generation.checkpoint import require_base
from stages.generation.cohort import assign_groups, check_lists, parse_rule, split_participants
from stages.generation.generator import LATENT_VOLUME, STABLE_DIFFUSION
from stages.generation.prompts import audit_prompts, build_prompts, imbalance_warning
from stages.generation.provenance import origin_of
from stages.generation.scratch import embed_prompts, split_words
from stages.generation.slices import Pixels, read_slice, save_stack
from stages.generation.tables import read_people, write_rows
from stages.generation.texts import load_text
from stages.generation.volumes import Brains, pair_scans, read_volume, save_brains

logger = logging.getLogger(__name__)

Row = dict[str, Any]


def run(
    *,
    images: list[str],
    participants: str,
    brains: list[str],
    alignments: list[str],
    base: str | None,
    cohort: str,
    stack: str,
    volumes: str,
    prompts: str,
    counts: str,
    verdict: str,
    audit: str,
    figure: str,
    group: list[str],
    rule: list[str],
    word: list[str],
    condition: list[str],
    prompt: list[str],
    generator: str,
    test_fraction: float,
    least_images: int,
    voxel_mm: float,
    seed: int,
) -> None:
    """Write cohort, slices, prompts and the prompts' audit; for latent-volume, volumes too.

    Raises
    ------
    ValueError
        Lists that do not run in parallel, a rule that cannot be read, a group with too few slices
        or participants, or one slice or brain under the names of two participants.
    FileNotFoundError
        Generator stable-diffusion without a whole checkpoint, or latent-volume without brains.
    """
    check_lists(group=group, rule=rule, word=word)
    check_lists(condition=condition, prompt=prompt)
    lines = build_prompts(
        dict(zip(condition, prompt, strict=True)), dict(zip(group, word, strict=True))
    )
    if generator == STABLE_DIFFUSION:
        tokenize, embed = load_text(require_base(base))
    else:
        tokenize, embed = split_words, lambda text: embed_prompts([text])[0].double().numpy()
    found = audit_prompts(lines, tokenize, embed)

    rules = {g: parse_rule(r) for g, r in zip(group, rule, strict=True)}
    rows, pixels = _gather(images, participants, rules)
    people = {r["participant_id"]: r["group"] for r in rows if r["place"] != ""}
    _check_groups(rows, group, rule, least_images)
    split = split_participants(people, test_fraction=test_fraction, seed=seed)
    origin = origin_of(participants)
    for row in rows:
        row["split"] = split.get(row["participant_id"], "") if row["place"] != "" else ""
        row["origin"] = origin
    _refuse_duplicates(rows, pixels, "slice")
    if generator == LATENT_VOLUME:
        used = [path for path, row in zip(images, rows, strict=True) if row["place"] != ""]
        pairs = pair_scans(used, brains, alignments)
        voxels = np.stack([read_volume(*pairs[path], voxel_mm) for path in used])
        _refuse_duplicates(rows, voxels, "brain")
        save_brains(volumes, Brains(voxels, voxel_mm))

    write_rows(cohort, rows)
    save_stack(stack, pixels)
    write_rows(prompts, lines)
    write_rows(counts, _count(rows, group))
    write_rows(audit, found or [{"condition": c, "warning": ""} for c in condition])
    in_training = Counter(r["group"] for r in rows if r["split"] == "train")
    told = _judge_prompts(found, {g: in_training[g] for g in group})
    Path(verdict).write_text(json.dumps(told, indent=2), encoding="utf-8")
    shown = {
        g: [r["place"] for r in rows if r["group"] == g and r["split"] == "train"] for g in group
    }
    figures.draw_cohort(
        figure,
        {g: pixels[places] for g, places in shown.items()},
        note=f"slices of {origin} scans",
    )
    logger.info("%d slices, training: %s; %s", len(pixels), dict(in_training), told["Headline"])


def _gather(images: list[str], participants: str, rules: Any) -> tuple[list[Row], Pixels]:
    """Read the slices of everybody who belongs to a group; say of others why not."""
    people = read_people(participants)
    groups = assign_groups(people, rules)
    rows: list[Row] = []
    kept: list[Pixels] = []
    for path in images:
        name = Path(path).name
        person = name.partition("_")[0]
        row: Row = {"filename": name, "participant_id": person, "group": groups.get(person, "")}
        row |= {"split": "", "place": "", "excluded": ""}
        if person not in groups:
            row["excluded"] = "no row in participants.tsv"
        elif not row["group"]:
            row["excluded"] = "no rule fits"
        else:
            row["place"] = len(kept)
            kept.append(read_slice(path))
        rows.append(row)
    return rows, np.stack(kept) if kept else np.zeros((0, 1, 1), np.uint8)


def _check_groups(rows: list[Row], groups: list[str], rules: list[str], least: int) -> None:
    for name, rule in zip(groups, rules, strict=True):
        own = [row for row in rows if row["group"] == name]
        people = {row["participant_id"] for row in own}
        if len(own) < least or len(people) < 2:
            raise ValueError(
                f"group {name} ({rule}): {len(own)} slices of {len(people)} participants, at least"
                f" {least} slices of 2 participants needed; change its rule, add data, or lower"
                " least_images"
            )


def _refuse_duplicates(rows: list[Row], pixels: Pixels, what: str) -> None:
    """Refuse one image under two names: it could be in training and held out at once."""
    seen: dict[str, Row] = {}
    for row in rows:
        if row["place"] == "":
            continue
        digest = hashlib.sha256(pixels[row["place"]].tobytes()).hexdigest()
        other = seen.setdefault(digest, row)
        if other["participant_id"] != row["participant_id"]:
            raise ValueError(
                f"{other['filename']} and {row['filename']} are the same {what} under two"
                " participants' names; remove one"
            )


def _count(rows: list[Row], groups: list[str]) -> list[Row]:
    table = []
    for group in groups:
        own = [row for row in rows if row["group"] == group]
        table.append({"item": f"images_{group}", "count": len(own)})
        table.append(
            {"item": f"participants_{group}", "count": len({r["participant_id"] for r in own})}
        )
        for part in ("train", "test"):
            many = sum(row["split"] == part for row in own)
            table.append({"item": f"{part}_images_{group}", "count": many})
    left_out = Counter(row["excluded"] for row in rows if row["excluded"])
    return table + [{"item": f"left out: {why}", "count": n} for why, n in left_out.items()]


def _judge_prompts(found: list[Row], in_training: dict[str, int]) -> Row:
    warnings = {
        f"{row['condition']}: {row['first']} and {row['second']}": row["warning"]
        for row in found
        if row["warning"]
    }
    imbalance = imbalance_warning(in_training)
    said = [f"{where}: {what}" for where, what in warnings.items()] + [imbalance] * bool(imbalance)
    return {
        "Headline": "Prompt audit: "
        + ("groups may get mixed up. " + ". ".join(said) if said else "nothing to warn of")
        + ".",
        "Warnings": warnings,
        "Imbalance": imbalance,
        "TrainingSlices": in_training,
        "Pairs": found,
    }
