"""Whether a head was scanned or made up by a program, which every figure and sidecar tells."""

from __future__ import annotations

import json
from pathlib import Path

MADE_UP = ("demo", "phantom", "simul", "synth")
FIELD = "Synthetic"
CAPTION = "SYNTHETIC DATA, nobody was scanned. "


def is_synthetic(path: Path) -> bool:
    """Tell whether an image's sidecar, or the dataset it lies in, says that it was made up.

    Generators name themselves in the dataset's GeneratedBy; converters from DICOM do too, so only
    names that speak of a demo, phantom or simulation count. Files that cannot be read say nothing.
    """
    if _read(path.with_name(path.name.partition(".")[0] + ".json")).get(FIELD) is True:
        return True
    for folder in path.parents:
        description = folder / "dataset_description.json"
        if description.is_file():
            makers = _read(description).get("GeneratedBy")
            makers = makers if isinstance(makers, list) else []
            names = " ".join(str(m.get("Name", "")) for m in makers if isinstance(m, dict)).lower()
            return any(word in names for word in MADE_UP)
    return False


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
