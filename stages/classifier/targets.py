"""What is to be predicted: a column of participants.tsv, or classes made of it."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.classifier.tables import MISSING, Row, number

CLASSIFICATION, REGRESSION = "classification", "regression"
MOST_CLASSES = 10  # a column of numbers with more values than this is a quantity
NUMBER = "number"


@dataclass(frozen=True)
class Target:
    """A name, the column it is made of, and rules that make classes; none take it as it is."""

    name: str
    column: str
    rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """Who is what: participant → index of the class, or the quantity itself."""

    task: str
    classes: tuple[str, ...]
    values: Mapping[str, float]


def find_target(name: str, definitions: Sequence[str]) -> Target:
    """Look a target up among definitions ``NAME=COLUMN|RULE|RULE``; else the name is the column.

    A rule is ``CLASS<NUMBER``, ``CLASS>=NUMBER``, ``CLASS:VALUE+VALUE`` or the word ``number``.

    >>> find_target("agegroup", ["agegroup=age|young<45|old>=50"])
    Target(name='agegroup', column='age', rules=('young<45', 'old>=50'))

    Raises
    ------
    ValueError
        A definition that is not of this form.
    """
    for text in definitions:
        own, equals, rest = text.partition("=")
        column, *rules = rest.split("|")
        if not (own and equals and column and rules):
            raise ValueError(
                f"definition {text!r}: expected NAME=COLUMN|RULE|…, such as"
                " agegroup=age|young<45|old>=50"
            )
        if own == name:
            return Target(name, column, tuple(rules))
    return Target(name, name)


def read_labels(target: Target, people: Mapping[str, Row]) -> Labels:
    """Label the participants; who has no value, or one that no rule takes, is left out.

    Parameters
    ----------
    people
        Participant → row of participants.tsv.

    Raises
    ------
    ValueError
        No such column, no value, a rule that says nothing, or a single class.
    """
    known = list(dict.fromkeys(column for row in people.values() for column in row))
    if target.column not in known:
        near = difflib.get_close_matches(target.column, known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"participants.tsv: no column {target.column!r} for target {target.name}{hint};"
            f" columns: {', '.join(known)}"
        )
    cells = {p: row.get(target.column, "n/a") for p, row in people.items()}
    cells = {p: cell for p, cell in cells.items() if cell not in MISSING}
    if not cells:
        raise ValueError(f"participants.tsv: column {target.column!r} has no values")
    numbers = {p: number(cell) for p, cell in cells.items()}
    are_numbers = not any(math.isnan(value) for value in numbers.values())
    is_quantity = target.rules == (NUMBER,) or (
        not target.rules and are_numbers and len(set(numbers.values())) > MOST_CLASSES
    )
    if is_quantity:
        if not are_numbers:
            bad = next(p for p, value in numbers.items() if math.isnan(value))
            raise ValueError(
                f"participants.tsv: {bad} has {cells[bad]!r} in {target.column!r}, not a number"
            )
        return Labels(REGRESSION, (), numbers)
    if target.rules:
        classes = tuple(_class_of(rule) for rule in target.rules)
        found = {p: _apply(target.rules, cells[p], numbers[p]) for p in cells}
    else:
        classes = tuple(sorted(set(cells.values())))
        found = {p: float(classes.index(cell)) for p, cell in cells.items()}
    values = {p: index for p, index in found.items() if index is not None}
    present = {classes[int(index)] for index in values.values()}
    if len(present) < 2:
        raise ValueError(
            f"target {target.name}: found {' and '.join(sorted(present)) or 'no class'}, expected"
            " at least two classes"
        )
    return Labels(CLASSIFICATION, classes, values)


def _class_of(rule: str) -> str:
    for mark in (">=", "<", ":"):
        name, found, value = rule.partition(mark)
        if name and found and value and (mark == ":" or not math.isnan(number(value))):
            return name
    raise ValueError(
        f"rule {rule!r}: expected CLASS<NUMBER, CLASS>=NUMBER, CLASS:VALUE+VALUE or number alone"
    )


def _apply(rules: Sequence[str], cell: str, value: float) -> float | None:
    """Find the first rule that takes a value; comparisons take no words."""
    for index, rule in enumerate(rules):
        if ">=" in rule:
            is_taken = value >= number(rule.partition(">=")[2])
        elif "<" in rule:
            is_taken = value < number(rule.partition("<")[2])
        else:
            is_taken = cell in rule.partition(":")[2].split("+")
        if is_taken:
            return float(index)
    return None
