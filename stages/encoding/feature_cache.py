"""Features of single stimuli on disk, so that an interrupted extraction goes on where it was."""

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Extracted = tuple[NDArray[np.float32], NDArray[np.int64]]  # features and fingerprints of frames


def extract_once(
    stimulus: Path, identity: Sequence[Any], folder: Path | None, make: Callable[[], Extracted]
) -> Extracted:
    """Take a stimulus' features from a folder, or make them and put them there.

    Parameters
    ----------
    stimulus : Path
        Its content counts, not its name.
    identity : sequence
        What else the features depend on, as JSON can write it: network, layer, weights, rates.
    folder : Path or None
        None: always make.
    make : callable
        Returns features and fingerprints, a row and a number per frame.
    """
    if folder is None:
        return make()
    with stimulus.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    key = hashlib.sha256(json.dumps([content, *identity]).encode()).hexdigest()[:32]
    path = folder / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = stored["features"], stored["fingerprints"]
        logger.info("%s: features taken from %s", stimulus.name, path)
        return found
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        logger.warning("%s: damaged, so %s is passed through again", path, stimulus.name)
    features, fingerprints = make()
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part.npz")
    np.savez(part, features=features, fingerprints=fingerprints)
    part.replace(path)  # whole or not at all
    return features, fingerprints
