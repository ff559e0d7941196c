"""Who belongs to which group, and who is held out."""

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING = ("", "n/a")
COMPARE = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
Condition = tuple[str, str, str]  # column, comparison, value


def parse_rule(rule: str) -> list[Condition]:
    """Read conditions joined by ``&``.

    Raises
    ------
    ValueError
        A part that is no COLUMN, comparison, VALUE.

    >>> parse_rule("sex=F & age>=45.5")
    [('sex', '=', 'F'), ('age', '>=', '45.5')]
    """
    found = []
    for part in rule.split("&"):
        match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|!=|<|>|=)\s*(.+?)\s*", part)
        if match is None:
            raise ValueError(
                f"rule {rule!r}: found {part.strip()!r}, expected a column of participants.tsv, one"
                " of = != < <= > >=, and a value, such as sex=F&age<50"
            )
        found.append((match[1], match[2], match[3]))
    return found


def check_lists(**lists: Sequence[str]) -> None:
    """Refuse lists that must run in parallel and do not, or names that occur twice.

    Raises
    ------
    ValueError
        Names the first list, which names things, and the one that does not fit.
    """
    (name, names), *others = lists.items()
    if len(set(names)) < len(names):
        raise ValueError(f"{name}: a name occurs twice in {', '.join(names)}")
    for other, values in others:
        if len(values) != len(names):
            raise ValueError(
                f"{other}: found {len(values)} ({'; '.join(values)}), expected one for each of the"
                f" {len(names)} in {name} ({', '.join(names)})"
            )


def assign_groups(
    people: Mapping[str, Mapping[str, str]], rules: Mapping[str, Sequence[Condition]]
) -> dict[str, str]:
    """Tell each participant's group; an empty text where no rule fits or a value is missing.

    Raises
    ------
    ValueError
        A column that is not there, a value that is no number though compared by size, or a
        participant to whom two rules apply.
    """
    columns = list(dict.fromkeys(name for row in people.values() for name in row))
    for conditions in rules.values():
        for column, _, _ in conditions:
            if column not in columns:
                raise ValueError(
                    f"participants.tsv has no column {column!r}; columns: {', '.join(columns)}"
                )
    groups = {}
    for name, row in people.items():
        fitting = [g for g, rule in rules.items() if all(_holds(row, c, name) for c in rule)]
        if len(fitting) > 1:
            raise ValueError(f"{name} belongs to {' and '.join(fitting)}; make the rules exclusive")
        groups[name] = fitting[0] if fitting else ""
    return groups


def split_participants(
    groups: Mapping[str, str], *, test_fraction: float, seed: int
) -> dict[str, str]:
    """Deal participants into ``train`` and ``test`` within each group; at least one in each.

    Parameters
    ----------
    groups
        Participant → group; those of no group are left out.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, str] = {}
    for group in dict.fromkeys(g for g in groups.values() if g):
        members = sorted(name for name, g in groups.items() if g == group)
        held_out = min(max(1, round(test_fraction * len(members))), len(members) - 1)
        order = rng.permutation(len(members))
        parts |= {members[i]: "test" if k < held_out else "train" for k, i in enumerate(order)}
    return parts


def hold_out(
    people: NDArray[Any], labels: NDArray[Any], *, fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Say which images are of a share of each group's participants, all images of each; (n,)."""
    if not fraction:
        return np.zeros(len(people), bool)
    groups = dict(zip(people.tolist(), labels.tolist(), strict=True))
    parts = split_participants(groups, test_fraction=fraction, seed=seed)
    return np.array([parts[person] == "test" for person in people])


def _holds(row: Mapping[str, str], condition: Condition, name: str) -> bool:
    column, sign, wanted = condition
    found = row.get(column) or "n/a"
    if found in MISSING:
        return False
    if sign in ("=", "!="):
        return bool(COMPARE[sign](found, wanted))
    try:
        return bool(COMPARE[sign](float(found), float(wanted)))
    except ValueError as error:
        raise ValueError(
            f"{name}: {column} is {found!r}, compared with {wanted!r}; both must be numbers"
        ) from error
