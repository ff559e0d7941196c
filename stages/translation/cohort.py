"""Step cohort: draw the two groups, their training and test halves, and the controls' groups."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.translation import people as groups
from stages.translation.tables import Row, participant_of, read_rows, write_rows

logger = logging.getLogger(__name__)


def run(
    *,
    images: list[str],
    probsegs: list[str],
    brains: list[str],
    participants: str,
    table: str,
    counts: str,
    balance: str,
    summary: str,
    content: str,
    column: str,
    bounds: str,
    domains: list[str],
    n_train: int,
    n_test: int,
    test_fraction: float,
    seed: int,
) -> None:
    """Write who is in which group, and what was counted.

    Raises
    ------
    ValueError
        No images of the content asked for, an empty domain, too few to train with.
    """
    paths = {"gm": images, "gmfraction": probsegs, "brain": brains}[content]
    if not paths:
        raise ValueError(
            f"content {content}: preprocessing wrote no such image; run it with profile mni-gm"
        )
    rows = {_name(row): row for row in read_rows(participants)}
    there = sorted({participant_of(path) for path in paths})
    known = {name: rows[name] for name in there if name in rows}
    if not known:
        raise ValueError(f"{participants}: none of {', '.join(there[:5])} has a row; add them")
    for name in there:
        if name not in rows:
            logger.warning("%s: no row in participants.tsv, left out", name)
    domain_of = groups.assign_domains(known, column=column, bounds=bounds, domains=domains)
    split = groups.draw_cohort(
        domain_of,
        known,
        domains=domains,
        n_train=n_train,
        n_test=n_test,
        test_fraction=test_fraction,
        seed=seed,
    )
    _check_sizes(domain_of, split, domains)
    controls = groups.control_domains(domain_of, split, known, domains=domains, seed=seed)
    _write_table(table, known, domain_of, split, controls)
    tests = groups.compare_groups(domain_of, split, known, domains)
    write_rows(balance, tests or [{"column": "n/a", "domain": "n/a", "counts": "n/a", "p": "n/a"}])
    uneven = sorted({row["column"] for row in tests if row["p"] < groups.WARN_BELOW})
    for name in uneven:
        logger.warning(
            "%s differs between %s (p < %g): it will be translated with the rest; balance the"
            " groups or read the maps with this in mind",
            name,
            " and ".join(domains),
            groups.WARN_BELOW,
        )
    write_rows(counts, _count(known, domain_of, split, domains, column))
    found = {"Domains": domains, "Content": content, "Uneven": uneven, "Column": column}
    Path(summary).write_text(json.dumps(found, indent=1), encoding="utf-8")


def _name(row: Row) -> str:
    if "participant_id" not in row:
        raise ValueError(f"participants.tsv: no column participant_id, found {', '.join(row)}")
    return "sub-" + row["participant_id"].removeprefix("sub-")


def _check_sizes(
    domain_of: Mapping[str, str], split: Mapping[str, str], domains: Sequence[str]
) -> None:
    for d in domains:
        n = sum(domain_of[p] == d and part == "train" for p, part in split.items())
        if n < 2:
            raise ValueError(
                f"domain {d!r}: {n} participants to train with, at least 2 needed; widen"
                " --translation-bounds or lower --translation-test-fraction"
            )


def _write_table(
    path: str,
    known: Mapping[str, Row],
    domain_of: Mapping[str, str],
    split: Mapping[str, str],
    controls: Mapping[str, Mapping[str, str]],
) -> None:
    rows: list[dict[str, Any]] = []
    for name in sorted(split):
        row: dict[str, Any] = {"participant_id": name, "split": split[name]}
        row[groups.REAL] = domain_of[name]
        for pair, own in controls.items():
            row[pair] = own.get(name, "n/a")
        row["age"] = known[name].get("age", "n/a")
        row |= {c: known[name].get(c, "n/a") for c in groups.balance_columns(known)}
        rows.append(row)
    write_rows(path, rows)


def _count(
    known: Mapping[str, Row],
    domain_of: Mapping[str, str],
    split: Mapping[str, str],
    domains: Sequence[str],
    column: str,
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"item": "with_image", "found": len(known)},
        {"item": "in_neither_domain", "found": len(known) - len(domain_of)},
    ]
    for d in domains:
        rows.append({"item": f"available_{d}", "found": sum(v == d for v in domain_of.values())})
        for part in ("train", "test"):
            n = sum(domain_of[p] == d and own == part for p, own in split.items())
            rows.append({"item": f"{part}_{d}", "found": n})
    rows.append({"item": "used", "found": len(split)})
    for row in rows:
        row["column"] = column
    return rows
