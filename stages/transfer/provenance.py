"""Where numbers come from: real scans, phantoms, or networks that were never trained."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

REAL = "real"
SYNTHETIC = "synthetic"
RANDOM = "random-weights"
MAKERS = ("demo", "phantom", "simul", "synth")


def is_synthetic(path: str | Path) -> bool:
    """Tell whether the dataset that holds a file says that a program made it up."""
    for folder in Path(path).resolve().parents:
        description = folder / "dataset_description.json"
        if description.is_file():
            about = json.loads(description.read_text(encoding="utf-8-sig"))
            makers = [m for m in about.get("GeneratedBy", []) if isinstance(m, dict)]
            names = " ".join(str(m.get("Name", "")) for m in makers).lower()
            return any(word in names for word in MAKERS)
    return False


def join(origins: Iterable[str]) -> str:
    """Join origins: what is not real in any part is not real as a whole.

    >>> join(["real", "synthetic", "real"])
    'synthetic'
    >>> join([])
    'real'
    """
    parts = sorted({part for origin in origins for part in origin.split("+")} - {REAL})
    return "+".join(parts) or REAL
