"""Who is in which part: the folds that harmonization dealt, or folds dealt here."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.classifier.tables import Row, number
from stages.classifier.targets import CLASSIFICATION, Labels

TRAIN, TEST, UNUSED = "train", "test", "unused"
REGISTERED = {  # arm → how preprocessing names the images on the template's grid, by channel
    "mnibrain": (("desc-brain",), "T1w"),
    "mnigm": (("desc-GM",), "T1w"),
    "mnigmfraction": (("label-GM",), "probseg"),
    "mnitissues": (("label-GM", "label-WM", "label-CSF"), "probseg"),
}
OWN = {  # the same for images in people's own frames
    "ownbrain": (("desc-brain",), "T1w"),
    "uprightbrain": (("desc-brain",), "T1w"),
    "uprighthead": (("desc-preproc",), "T1w"),
}
ALIGNED = {  # arm → where the alignment leads that it needs
    "mnitissues": "MNI152NLin2009aSym",
    "uprightbrain": "upright",
    "uprighthead": "upright",
}
# Arms that set voxels side by side or stretch images: their shape is common, not their voxel size.
BY_VOXELS = ("zerobackground", "cluster", "stratified", "resize", "croppad")
DEALT_HERE = REGISTERED | OWN  # arms that harmonization has no folds for
DERIVED = ("desc", "space", "res", "label", "from", "to", "mode")


def channel_of(path: str | Path, arm: str) -> int | None:
    """Say which channel of an arm's image a file holds by its name; None: of no such image."""
    *pairs, suffix = Path(path).name.partition(".")[0].split("_")
    channels, kind = DEALT_HERE.get(arm, ((f"desc-{arm}",), "T1w"))
    has_space = any(p.startswith("space-") for p in pairs)
    if suffix != kind or has_space != (arm in REGISTERED):
        return None
    return next((index for index, pair in enumerate(channels) if pair in pairs), None)


def scan_key(path: str | Path) -> str:
    """Name the scan that a file was made from.

    >>> scan_key("a/sub-01_ses-1_space-MNI152NLin2009aSym_res-1_desc-GM_T1w.nii.gz")
    'sub-01_ses-1'
    """
    *pairs, _ = Path(path).name.partition(".")[0].split("_")
    return "_".join(pair for pair in pairs if pair.split("-")[0] not in DERIVED)


def participant_of(path: str | Path) -> str:
    """Name the participant of a file, ``sub-01``."""
    return Path(path).name.split("_")[0]


def take_parts(
    names: Sequence[str], fingerprint: Sequence[Row], labels: Labels, arm: str
) -> dict[str, tuple[str, int | None]]:
    """Take participants' parts from harmonization's table.

    Parameters
    ----------
    names
        Participants who have an image of the arm.

    Returns
    -------
    dict
        Participant → (train or test, fold); who was not drawn into the arm is not in it.

    Raises
    ------
    ValueError
        The table does not know the arm.
    """
    column = f"cohort_{arm}"
    if not fingerprint or column not in fingerprint[0]:
        raise ValueError(
            f"fingerprint.tsv: no column {column}; run harmonization with arm {arm}, or choose an"
            f" arm that needs none ({', '.join(DEALT_HERE)})"
        )
    drawn = {}
    for row in fingerprint:
        name = "sub-" + row["participant_id"].removeprefix("sub-")
        is_in = row.get("excluded", "n/a") == "n/a" and row[column] == "yes"
        if is_in and name in labels.values and name in names:
            fold = None if row["fold"] == "n/a" else int(row["fold"])
            drawn[name] = (row["split"], fold)
    return drawn


def draw_parts(
    people: Mapping[str, Row],
    labels: Labels,
    *,
    folds: int,
    n_train: int,
    n_test: int,
    rng: np.random.Generator,
) -> dict[str, tuple[str, int | None]]:
    """Deal participants into a test set and folds, spread evenly over class, site, sex and age.

    They are sorted by these, equals in random order, and dealt like cards, so any two parts differ
    by at most one person within each group of neighbours.

    Parameters
    ----------
    people
        Those who have an image, with their rows of participants.tsv.
    n_train, n_test
        Participants per class (of all for a quantity); n_train 0 takes everybody who is left.

    Raises
    ------
    ValueError
        A class with fewer participants than asked for.
    """
    is_class = labels.task == CLASSIFICATION
    members: dict[str, list[str]] = {}
    for name in sorted(people):
        if name in labels.values:
            kind = labels.classes[int(labels.values[name])] if is_class else ""
            members.setdefault(kind, []).append(name)
    parts: dict[str, tuple[str, int | None]] = {}
    start = 0
    for kind, names in sorted(members.items()):
        what = f"class {kind!r}" if is_class else "the cohort"
        if len(names) < n_train + n_test:
            raise ValueError(
                f"{what} has {len(names)} participants, {n_train} to train and {n_test} to test"
                " were asked for; ask for fewer"
            )
        shuffle = dict(zip(names, rng.permutation(len(names)), strict=True))
        ranked = sorted(names, key=lambda n: (*_strata(people[n], labels, n), shuffle[n]))
        is_test = _every(len(ranked), n_test)
        rest = [n for n, test in zip(ranked, is_test, strict=True) if not test]
        if n_train:
            rest = [n for n, kept in zip(rest, _every(len(rest), n_train), strict=True) if kept]
        parts |= {n: (TEST, None) for n, test in zip(ranked, is_test, strict=True) if test}
        for position, name in enumerate(rest):
            parts[name] = (TRAIN, (start + position) % folds)
        start += len(rest)
    return parts


def check_folds(parts: Mapping[str, tuple[str, int | None]], labels: Labels) -> int:
    """Count the folds; refuse them if a class is not in each.

    Raises
    ------
    ValueError
        A class with fewer participants than folds, or nobody at all.
    """
    dealt = {name: fold for name, (_, fold) in parts.items() if fold is not None}
    if not dealt:
        raise ValueError("no participant has both an image and a label; check participants.tsv")
    folds = max(dealt.values()) + 1
    if labels.task == CLASSIFICATION:
        for index, kind in enumerate(labels.classes):
            number_of = sum(labels.values[name] == index for name in dealt)
            if number_of < folds:
                raise ValueError(
                    f"class {kind!r} has {number_of} participants to train on, fewer than {folds}"
                    " folds; ask for fewer folds or join classes"
                )
    return folds


def check_leaks(rows: Sequence[Row]) -> None:
    """Refuse parts that share a participant or an image.

    Parameters
    ----------
    rows
        participant_id, image_hash, filename, split and fold of each image.

    Raises
    ------
    ValueError
        A participant in two parts, or one image under two participants' names in two parts.
    """
    for column, what in (("participant_id", "is"), ("image_hash", "is the same image")):
        seen: dict[str, Row] = {}
        for row in rows:
            if row["split"] == UNUSED:
                continue
            first = seen.setdefault(row[column], row)
            if (first["split"], first["fold"]) != (row["split"], row["fold"]):
                pair = f"{first['filename']} and {row['filename']}"
                raise ValueError(
                    f"leak: {pair}: {row['participant_id']} {what} in two parts"
                    f" ({_part(first)} and {_part(row)}); remove one from the dataset"
                )


def _part(row: Row) -> str:
    return row["split"] if row["split"] == TEST else f"fold {row['fold']}"


def _strata(row: Row, labels: Labels, name: str) -> tuple[str, str, float]:
    age = number(row.get("age", "n/a"))
    value = labels.values[name] if labels.task != CLASSIFICATION else age
    sex = row.get("sex", "n/a") if labels.task == CLASSIFICATION else ""
    return row.get("site", ""), sex, float(np.nan_to_num(value, nan=np.inf))


def _every(size: int, number_of: int) -> list[bool]:
    """Mark so many of a deck, evenly spread."""
    chosen = np.zeros(size, dtype=bool)
    chosen[np.floor((np.arange(number_of) + 0.5) * size / max(number_of, 1)).astype(int)] = True
    return [bool(c) for c in chosen]
