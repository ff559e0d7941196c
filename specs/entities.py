"""Names of files in BIDS: their parts, their order, and back.

Follows the Brain Imaging Data Structure 1.10 (Gorgolewski et al. 2016, Sci Data 3:160044): a name
is ``key-value`` pairs joined by underscores, then a suffix and an extension.
"""

from collections.abc import Mapping

Entities = Mapping[str, str]

# Short names in the order of the specification; from, to, mode and stat are used by derivatives
# (fMRIPrep, FitLins) though the specification does not know them yet.
# fmt: off
ENTITY_ORDER = (
    "sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec",
    "dir", "run", "mod", "echo", "flip", "inv", "mt", "part", "proc", "hemi", "from", "to", "mode",
    "space", "split", "recording", "chunk", "atlas", "seg", "scale", "res", "den", "label", "stat",
    "desc",
)
# fmt: on

# What filter files (fMRIPrep's --bids-filter-file, pybids) call them.
LONG_NAMES = {
    "subject": "sub",
    "session": "ses",
    "acquisition": "acq",
    "ceagent": "ce",
    "tracer": "trc",
    "staining": "stain",
    "reconstruction": "rec",
    "direction": "dir",
    "modality": "mod",
    "inversion": "inv",
    "mtransfer": "mt",
    "processing": "proc",
    "hemisphere": "hemi",
    "segmentation": "seg",
    "resolution": "res",
    "density": "den",
    "description": "desc",
}

# Parts of a path that are not ``key-value`` pairs but can be asked for like them.
PATH_PARTS = ("datatype", "suffix", "extension")


def parse_path(path: str) -> dict[str, str] | None:
    """Read the entities of a file from its path inside a dataset.

    Parts of the name that are not ``key-label`` make the file not BIDS: None. The datatype is the
    name of the folder that holds the file, where that is not the participant's or session's. Files
    under ``stimuli/`` may have any name, which is their suffix.

    >>> parse_path("sub-01/anat/sub-01_run-2_T1w.nii.gz")
    {'sub': '01', 'run': '2', 'suffix': 'T1w', 'extension': '.nii.gz', 'datatype': 'anat'}
    >>> parse_path("participants.tsv")
    {'suffix': 'participants', 'extension': '.tsv'}
    >>> parse_path("stimuli/clip_03.v2.mp4")
    {'suffix': 'clip_03.v2', 'extension': '.mp4', 'datatype': 'stimuli'}
    >>> parse_path("sub-01/anat/scan 3.nii.gz") is None
    True
    """
    folder, _, name = path.rpartition("/")
    if path.startswith("stimuli/"):
        stem, dot, extension = name.rpartition(".")
        return {"suffix": stem, "extension": dot + extension, "datatype": "stimuli"}
    stem, dot, extension = name.partition(".")
    *pairs, suffix = stem.split("_")
    entities = {}
    for pair in pairs:
        key, dash, value = pair.partition("-")
        if not (dash and key.isalnum() and is_label(value)):
            return None
        entities[key] = value
    if not suffix or not suffix.isalnum():
        return None
    entities["suffix"] = suffix
    entities["extension"] = dot + extension
    parent = folder.rpartition("/")[2]
    if parent and not parent.startswith(("sub-", "ses-")):
        entities["datatype"] = parent
    return entities


def build_path(entities: Entities) -> str:
    """Build a file's path inside a dataset from its entities.

    Raises
    ------
    ValueError
        A value that would leave the dataset or break the name (a separator, an underscore).

    >>> build_path({"desc": "brain", "sub": "01", "suffix": "mask", "extension": ".nii.gz",
    ...             "datatype": "anat"})
    'sub-01/anat/sub-01_desc-brain_mask.nii.gz'
    """
    for key, value in entities.items():
        check_label(key, value)
    pairs = [f"{key}-{entities[key]}" for key in ENTITY_ORDER if key in entities]
    name = "_".join([*pairs, entities["suffix"]]) + entities["extension"]
    folders = [f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities]
    if "datatype" in entities:
        folders.append(entities["datatype"])
    return "/".join([*folders, name])


def is_label(value: str) -> bool:
    """Tell whether a text is a BIDS label: letters, digits and ``+``."""
    return value.replace("+", "").isalnum()


def check_label(key: str, value: str) -> None:
    """Refuse an entity's value that is no BIDS label."""
    if not is_label(value.replace(".", "") if key == "extension" else value):
        raise ValueError(f"{key}: found {value!r}, expected letters and digits only")
