"""What slices were made of and by, which every figure, card and sidecar says."""

import json
from pathlib import Path

from stages.generation.generator import LATENT_VOLUME, STABLE_DIFFUSION

REAL, SYNTHETIC = "real", "synthetic"
MADE_UP = ("demo", "phantom", "simul", "synth")


def origin_of(participants: str | Path) -> str:
    """Tell whether the dataset of a participants.tsv says that a program made its scans up.

    Generators name themselves in GeneratedBy; a converter from DICOM does too, so only names that
    speak of a demo, phantom or simulation count.
    """
    path = Path(participants).parent / "dataset_description.json"
    try:
        makers = json.loads(path.read_text(encoding="utf-8-sig")).get("GeneratedBy", [])
    except (FileNotFoundError, ValueError, AttributeError):
        return REAL  # no description that could say otherwise
    names = " ".join(str(m.get("Name", "")) for m in makers if isinstance(m, dict)).lower()
    return SYNTHETIC if any(word in names for word in MADE_UP) else REAL


def describe_training(kind: str, *, origin: str, steps: int, base: str | None) -> str:
    """Say in a line what a model is and what it has seen.

    >>> describe_training("scratch", origin="synthetic", steps=60, base=None)
    'model from scratch (not Stable Diffusion), 60 steps on synthetic scans'
    """
    if kind == STABLE_DIFFUSION:
        return f"checkpoint {Path(str(base)).name}, fine-tuned {steps} steps on {origin} scans"
    what = "latent model of volumes" if kind == LATENT_VOLUME else "model"
    return f"{what} from scratch (not Stable Diffusion), {steps} steps on {origin} scans"
