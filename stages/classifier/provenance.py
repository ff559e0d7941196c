"""Where data are from, which every output says: real, or made up by a program."""

import json
from pathlib import Path

REAL, SYNTHETIC = "real", "synthetic"
MADE_UP = ("demo", "phantom", "simul", "synth")


def origin_of(participants: str | Path) -> str:
    """Tell whether the dataset that a participants.tsv belongs to says that it was made up.

    Generators name themselves in GeneratedBy; a converter from DICOM does too, so only names that
    speak of a demo, phantom or simulation count.
    """
    path = Path(participants).parent / "dataset_description.json"
    if not path.exists():
        return REAL
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return REAL
    makers = description.get("GeneratedBy", [])
    names = " ".join(str(m.get("Name", "")) for m in makers if isinstance(m, dict)).lower()
    return SYNTHETIC if any(word in names for word in MADE_UP) else REAL
