"""Datasets on disk → flat records, one per file; the only importer of pybids.

By default folders are walked and names read, which takes well under a second where a full pybids
index takes half a minute; with ``--bids-database-dir`` an index that pybids keeps there is reused.
Only the selected participants' folders are visited.
"""

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_app import files
from bids_app.errors import AppError, Exit
from specs.entities import ENTITY_ORDER, LONG_NAMES, PATH_PARTS, is_label, parse_path
from specs.reading import suggest, tell

RAW = "raw"
STAGE_PREFIX = "brainstages-"
logger = logging.getLogger("brainstages")
DESCRIPTION_EXAMPLE = '{"Name": "my study", "BIDSVersion": "1.10.0"}'
IGNORED_FOLDERS = ("logs", "figures", "derivatives", "sourcedata", "code")


@dataclass(frozen=True, slots=True)
class BidsFile:
    """One file: where it comes from (raw, a stage, a named derivative), its path, its entities."""

    source: str
    path: str
    entities: Mapping[str, Any]


def dataset_roots(
    bids_dir: Path, out_dir: Path, stages: Iterable[str], derivatives: Mapping[str, Path]
) -> dict[str, Path]:
    """Name the folders that files may come from, by source."""
    stage_roots = {stage: out_dir / f"{STAGE_PREFIX}{stage}" for stage in stages}
    return {RAW: bids_dir, **stage_roots, **derivatives}


def check_dataset(root: Path) -> dict[str, Any]:
    """Read a raw dataset's description.

    Raises
    ------
    AppError
        66: no such folder. 16: no dataset_description.json, one that is no description, or a
        participants.tsv that cannot be read.
    """
    if not root.is_dir():
        raise AppError(
            Exit.MISSING_FILE,
            f"{root}: no such folder{'; in a container: is it mounted?' if in_container() else ''}",
        )
    path = root / "dataset_description.json"
    if not path.is_file():
        raise AppError(
            Exit.INVALID_INPUT,
            f"{path} is missing, so this is not the root of a BIDS dataset; give the folder that"
            f" holds sub-*, or write the file: {DESCRIPTION_EXAMPLE}",
        )
    try:
        description = files.read_json(path)
        files.read_table(root / "participants.tsv")
    except ValueError as error:
        raise AppError(Exit.INVALID_INPUT, str(error)) from error
    if not isinstance(description, dict):
        found = f"{path}: found {tell(description)}, expected names and values"
        raise AppError(Exit.INVALID_INPUT, f"{found}, such as {DESCRIPTION_EXAMPLE}")
    absent = [k for k in ("Name", "BIDSVersion") if k not in description]
    if absent:
        raise AppError(
            Exit.INVALID_INPUT,
            f"{path}: {' and '.join(absent)} missing; write it like {DESCRIPTION_EXAMPLE}",
        )
    return description


def is_synthetic(root: Path) -> bool:
    """Tell whether a raw dataset says of itself that a program made it up.

    Generators name themselves in GeneratedBy, as our demo does; a converter from DICOM does too,
    so only names that speak of a demo, phantom or simulation count.
    """
    makers = check_dataset(root).get("GeneratedBy")
    makers = makers if isinstance(makers, list) else []
    names = " ".join(str(m.get("Name", "")) for m in makers if isinstance(m, dict)).lower()
    return any(word in names for word in ("demo", "phantom", "simul", "synth"))


def list_participants(root: Path) -> list[str]:
    """List the labels of a dataset's participants, sorted, from its sub-* folders.

    Folders such as ``sub-01_old`` or ``sub-01 (copy)`` are no participants.
    """
    with os.scandir(root) as entries:
        names = sorted(
            e.name for e in entries if e.name.startswith("sub-") and os.path.isdir(e.path)
        )
    odd = [name for name in names if not is_label(name[4:])]
    if odd:
        logger.warning(
            "%s: left out, since a label has letters and digits only: %s; rename what is meant",
            root,
            ", ".join(map(ascii, odd[:5])) + (", …" if len(odd) > 5 else ""),
        )
    return [name[4:] for name in names if name not in odd]


def select_participants(bids_dir: Path, wanted: Iterable[str]) -> list[str]:
    """Choose participants by label; all of them when none is asked for.

    Raises
    ------
    AppError
        18: labels that are not in the dataset, named; or a dataset without participants.
    """
    found = list_participants(bids_dir)
    wanted = list(wanted)
    unknown = sorted(set(wanted) - set(found))
    if unknown or not found:
        some = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        hint = "; in a container: is the whole dataset mounted?" if in_container() else ""
        what = f"no participant {', '.join(unknown)}" if unknown else "no sub-* folder"
        raise AppError(
            Exit.NOTHING_SELECTED,
            f"{bids_dir}: {what}; participants: {some or 'none'} ({len(found)} in all){hint}",
        )
    return wanted or found


def index(
    roots: Mapping[str, Path],
    participants: Iterable[str],
    *,
    sessions: Iterable[str] = (),
    database_dir: Path | None = None,
) -> list[BidsFile]:
    """List the files of the datasets that belong to the participants, or to no one.

    Parameters
    ----------
    roots
        Folders by source; those that do not exist are passed over.
    sessions
        Labels; files of other sessions are left out, files without a session stay.
    database_dir
        Where pybids keeps its index of the raw dataset; made there if it is not.
    """
    labels, sessions = list(participants), set(sessions)
    records: list[BidsFile] = []
    strays: list[str] = []
    for source, root in roots.items():
        if source == RAW and database_dir is not None:
            paths: Iterable[str] = _pybids_paths(root, database_dir, set(labels))
        else:
            paths = _walk(root, labels)
        for path in paths:
            entities = parse_path(path)
            if entities is None or not path.isprintable():  # bytes that are no text, line ends
                continue
            folder, slash, _ = path.partition("/")
            if slash and folder.startswith("sub-") and entities.get("sub") != folder[4:]:
                strays += [f"{root}/{path}"] if "sub" in entities else []
                continue
            if sessions and entities.get("ses", "") not in ("", *sessions):
                continue
            records.append(BidsFile(source, f"{root}/{path}", entities))
    if strays:
        logger.warning(
            "%d files left out, since name and folder disagree, such as %s", len(strays), strays[0]
        )
    return records


def read_filter_file(path: Path) -> dict[str, dict[str, Any]]:
    """Read fMRIPrep's filter file: query name → entity → value, list, null or ``"*"``.

    Returns the entities by their short names.

    Raises
    ------
    AppError
        66: no such file. 64: not JSON, or an unknown entity.
    """
    if not path.is_file():
        raise AppError(Exit.MISSING_FILE, f"{path}: no such filter file")
    try:
        data = files.read_json(path)
    except ValueError as error:
        raise AppError(Exit.USAGE, str(error)) from error
    filters: dict[str, dict[str, Any]] = {}
    for query, wanted in data.items() if isinstance(data, dict) else [("top level", data)]:
        if not isinstance(wanted, dict):
            found = f"{path}: {query}: found {tell(wanted)}, expected entities by name"
            raise AppError(Exit.USAGE, f'{found}, such as {{"t1w": {{"session": "01"}}}}')
        filters[query] = {}
        for name, value in wanted.items():
            short = LONG_NAMES.get(name, name)
            if short not in ENTITY_ORDER and short not in PATH_PARTS:
                near = suggest(name, [*LONG_NAMES, *ENTITY_ORDER, *PATH_PARTS])
                what = f"{path}: {query}.{name}: no such BIDS entity{near}"
                raise AppError(
                    Exit.USAGE, f"{what}; give session, acquisition, run, suffix or such"
                )
            if short == "extension" and isinstance(value, str):
                value = "." + value.removeprefix(".")
            filters[query][short] = value
    return filters


def in_container() -> bool:
    """Tell whether this process runs inside Docker or Apptainer."""
    return any(Path(p).exists() for p in ("/.dockerenv", "/.singularity.d", "/run/.containerenv"))


def _walk(root: Path, labels: Iterable[str]) -> Iterator[str]:
    """Yield paths relative to ``root``: of files beside the participants, and in their folders."""
    if not root.is_dir():
        return
    for entry in sorted(os.scandir(root), key=lambda e: e.name):
        if _is_content(entry):
            yield entry.name
        elif (
            not entry.name.startswith((".", "sub-"))
            and entry.name not in IGNORED_FOLDERS
            and os.path.isdir(entry.path)
        ):
            yield from _walk_folder(entry.path, entry.name)
    for label in labels:
        folder = f"{root}/sub-{label}"
        if os.path.isdir(folder):
            yield from _walk_folder(folder, f"sub-{label}")


def _walk_folder(folder: str, prefix: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda e: e.name)
    except PermissionError as error:  # one closed folder must not keep the others from running
        logger.warning("%s: left out: %s; make it readable", folder, error.strerror)
        return
    for entry in entries:
        path = f"{prefix}/{entry.name}"
        # A symbolic link to a folder above would be walked for ever, hence not followed;
        # links to files (git-annex, DataLad) are.
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in IGNORED_FOLDERS:
                yield from _walk_folder(entry.path, path)
        elif not entry.name.startswith(".") and _is_content(entry):
            yield path


def _is_content(entry: "os.DirEntry[str]") -> bool:
    """Tell files, and links to files that are not there (yet), from pipes, devices and folders.

    A pipe would be waited for and a device read for ever. Costs no look at ordinary files.
    """
    if entry.is_file(follow_symlinks=False):
        return True
    if not entry.is_symlink():
        return False
    try:
        return stat.S_ISREG(Path(entry.path).stat().st_mode)
    except OSError:
        return True  # it leads nowhere (yet) or in a circle; the job that wants it will say so


def _pybids_paths(root: Path, database_dir: Path, labels: set[str]) -> list[str]:
    """List files by pybids' index, which is made in ``database_dir`` if it is not there yet."""
    from bids import BIDSLayout, BIDSLayoutIndexer

    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False)
    layout = BIDSLayout(root, database_path=database_dir, indexer=indexer)
    paths = []
    for path in layout.files:
        relative = Path(path).relative_to(root).as_posix()
        first = relative.split("/")[0]
        if not first.startswith("sub-") or first[4:] in labels:
            paths.append(relative)
    return sorted(paths)
