"""Anatomical landmarks as named points: from label maps, BIDS ``_points.tsv``, Slicer ``.fcsv``.

A landmark is a name and a place in the scanner's coordinates, RAS+, mm. Slicer writes either RAS
or LPS and says so in the header of the file; points are RAS here and in what is written.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from scipy import ndimage

from stages.transfer.volumes import Floats, Volume, load

Points = dict[str, Floats]  # name → (3,), RAS mm

RAS_WORDS = ("0", "RAS")
LPS_WORDS = ("1", "LPS")
FCSV_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def read_points(path: str | Path) -> Points:
    """Read landmarks from a label map, a table or a Slicer file, by the file's extension.

    Raises
    ------
    ValueError
        Another kind of file, or one without any point.
    """
    name = Path(path).name
    if name.endswith((".nii", ".nii.gz")):
        points = find_centroids(load(path))
    elif name.endswith(".fcsv"):
        points = parse_fcsv(_read_text(path), path)
    elif name.endswith(".tsv"):
        points = parse_tsv(_read_text(path), path)
    else:
        raise ValueError(f"{path}: not a kind of landmark file; give .nii.gz, .tsv or .fcsv")
    if not points:
        raise ValueError(f"{path}: no landmark in it; leave the file out")
    return points


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8 ({error}); export it again") from error


def find_centroids(labels: Volume) -> Points:
    """Find the centre of mass of every label above 0; its name is the number.

    >>> data = np.zeros((5, 5, 5), int); data[1:4, 2, 2] = 7
    >>> find_centroids(Volume(data, np.diag([2.0, 2.0, 2.0, 1.0])))
    {'7': array([4., 4., 4.])}
    """
    values = np.unique(labels.data)
    values = values[values > 0]
    if not values.size:
        return {}
    centres = np.array(ndimage.center_of_mass(labels.data > 0, labels.data, values))
    return {f"{v:g}": p for v, p in zip(values, labels.to_world(centres), strict=True)}


def parse_fcsv(text: str, path: str | Path = "text") -> Points:
    """Read a Slicer fiducial file, version 4 or 5; LPS is turned into RAS.

    A point's name is its description (as AFIDs have it) or else its label; a name that comes twice
    gets the label too.

    Raises
    ------
    ValueError
        No or unknown coordinate system, or a point that is no three numbers; names the line.
    """
    system = ""
    columns = FCSV_COLUMNS.split(",")
    rows: list[tuple[str, str, Floats]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            key, _, value = line[1:].partition("=")
            if key.strip() == "CoordinateSystem":
                system = value.strip()
            elif key.strip() == "columns":
                columns = [word.strip() for word in value.strip().split(",")]
            continue
        if not line.strip():
            continue
        if system not in (*RAS_WORDS, *LPS_WORDS):
            raise ValueError(
                f"{path}: coordinate system {system or 'not given'}, expected RAS (0) or LPS (1);"
                " export the points from Slicer again"
            )
        row = dict(zip(columns, next(csv.reader([line])), strict=False))
        try:
            place = np.array([float(row[axis]) for axis in "xyz"])
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: line {number}: no three coordinates in {line!r}") from error
        place = place * LPS_TO_RAS if system in LPS_WORDS else place
        rows.append((row.get("desc", "").strip(), row.get("label", "").strip(), place))
    return _name(rows)


def format_fcsv(points: Mapping[str, Floats]) -> str:
    """Write points as Slicer's fiducial file, RAS; numbers survive reading them again."""
    stream = io.StringIO()
    stream.write("# Markups fiducial file version = 4.11\n# CoordinateSystem = RAS\n")
    stream.write(f"# columns = {FCSV_COLUMNS}\n")
    writer = csv.writer(stream, lineterminator="\n")
    for index, (name, place) in enumerate(points.items(), start=1):
        xyz = [repr(float(v)) for v in place]
        writer.writerow([f"vtkMRMLMarkupsFiducialNode_{index}", *xyz, 0, 0, 0, 1, 1, 1, 0])
        # label, desc, associatedNodeID end the row
        stream.seek(stream.tell() - 1)
        stream.write(",")
        writer.writerow([index, name, ""])
    return stream.getvalue()


def parse_tsv(text: str, path: str | Path = "text") -> Points:
    """Read a table with columns name (or label), x, y, z in RAS mm.

    Raises
    ------
    ValueError
        A column is missing, or a value is no number; names the row.
    """
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t", restval=""))
    found = [str(name) for name in rows[0]] if rows else text.splitlines()[:1]
    names = [column for column in ("name", "label") if column in found]
    if not names or not {"x", "y", "z"} <= set(found):
        raise ValueError(f"{path}: columns {', '.join(found)}; expected name, x, y, z")
    points: Points = {}
    for number, row in enumerate(rows, start=2):
        if "n/a" in (row["x"], row["y"], row["z"]):
            continue
        try:
            points[row[names[0]]] = np.array([float(row[axis]) for axis in "xyz"])
        except ValueError as error:
            raise ValueError(f"{path}: line {number}: {error}") from error
    return points


def check_inside(points: Mapping[str, Floats], volume: Volume, path: str | Path) -> None:
    """Refuse landmarks outside the volume they are said to be in.

    Raises
    ------
    ValueError
        Names the points, and hints at the usual reason.
    """
    if not points:
        return
    places = volume.to_voxels(np.array(list(points.values())))
    low, high = places < -0.5, places > np.array(volume.data.shape) - 0.5
    outside = np.flatnonzero(np.any(low | high, axis=1))
    if len(outside):
        out = [list(points)[index] for index in outside]
        raise ValueError(
            f"{path}: {len(out)} of {len(points)} landmarks are outside the image"
            f" ({', '.join(out[:3])}); are they of another image, or LPS where RAS is said?"
        )


def choose_spread(people: Iterable[Mapping[str, Floats]], count: int, share: float) -> list[str]:
    """Choose landmarks that many people have and that lie far apart; sets of less are their start.

    Farthest-point order on mean positions relative to each person's centre, starting from the
    landmark nearest to the centre: the first 20 of 60 are the 20 that would be chosen alone.

    Parameters
    ----------
    people : iterable of mapping
        Each person's landmarks.
    count : int
        How many to choose.
    share : float
        Least share of people who have the landmark.

    Raises
    ------
    ValueError
        Fewer than ``count`` are common enough; tells how many are.
    """
    people = list(people)
    tally: dict[str, int] = {}
    for person in people:
        for name in person:
            tally[name] = tally.get(name, 0) + 1
    common = sorted((n for n, k in tally.items() if k >= share * len(people)), key=_natural)
    if len(common) < count:
        raise ValueError(
            f"{count} landmarks asked for, but only {len(common)} are in at least {share:.0%} of"
            f" {len(people)} participants ({len(tally)} in any); ask for fewer"
        )
    places: dict[str, list[Floats]] = {name: [] for name in common}
    for person in people:
        present = [name for name in common if name in person]
        centre = np.mean([person[name] for name in present], axis=0)
        for name in present:
            places[name].append(person[name] - centre)
    means = np.array([np.mean(places[name], axis=0) for name in common])
    chosen = [int(np.argmin(np.linalg.norm(means, axis=1)))]
    nearest = np.linalg.norm(means - means[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.linalg.norm(means - means[chosen[-1]], axis=1))
    return [common[i] for i in chosen]


def _natural(name: str) -> tuple[bool, float, str]:
    is_number = name.replace(".", "", 1).isdigit()
    return (not is_number, float(name) if is_number else 0.0, name)


def _name(rows: list[tuple[str, str, Floats]]) -> Points:
    described = [desc or label for desc, label, _ in rows]
    points: Points = {}
    for index, (_, label, place) in enumerate(rows):
        name = described[index]
        if described.count(name) > 1 or not name:
            name = f"{name} {label or index + 1}".strip()
        points[name] = place
    return points
