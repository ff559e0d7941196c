"""Scans of an arm: which files make one image, and the image with its channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.classifier.alignment import keep_head, read_alignment, turn_upright, volume_ratio
from stages.classifier.centring import centre
from stages.classifier.cohort import ALIGNED, DEALT_HERE, channel_of, scan_key
from stages.classifier.images import Volume, load

CLEANED = {"ownbrain": centre, "uprighthead": keep_head}


@dataclass(frozen=True)
class Scan:
    """Files of one scan: an image per channel, and its alignment where the arm needs it."""

    channels: tuple[str, ...]
    alignment: str | None = None

    @property
    def name(self) -> str:
        """File name that stands for the scan in tables, the first channel's."""
        return Path(self.channels[0]).name


def find_scans(images: Sequence[str], alignments: Sequence[str], arm: str) -> list[Scan]:
    """Group files by scan; those of other arms are passed over.

    Raises
    ------
    ValueError
        A channel or an alignment that is missing.
    """
    found: dict[str, dict[int, str]] = {}
    for path in sorted(images):
        if (channel := channel_of(path, arm)) is not None:
            found.setdefault(scan_key(path), {})[channel] = path
    end = f"_to-{ALIGNED.get(arm, '')}_mode-image_xfm.mat"
    to = {scan_key(path): path for path in alignments if path.endswith(end)}
    names, _ = DEALT_HERE.get(arm, ((f"desc-{arm}",), "T1w"))
    scans = []
    for key, channels in sorted(found.items()):
        lacking = [name for index, name in enumerate(names) if index not in channels]
        if arm in ALIGNED and key not in to:
            lacking.append(f"from-T1w{end}")
        if lacking:
            raise ValueError(
                f"{key}: arm {arm} lacks {', '.join(lacking)}; run preprocessing again with"
                " profile mni-gm"
            )
        alignment = to[key] if arm in ALIGNED else None
        scans.append(Scan(tuple(channels[index] for index in range(len(names))), alignment))
    return scans


def load_scan(scan: Scan, arm: str) -> Volume:
    """Load an arm's image, (channels, x, y, z): as it is, centred, upright, or modulated.

    Modulated fractions are multiplied by the head's volume over the template's (Good et al. 2001,
    NeuroImage 14:21-36): their sum times the voxel's volume is the tissue in the head, mm³ / mm³.

    Raises
    ------
    FileNotFoundError, ValueError
        As ``load`` and ``centre`` do; channels on several grids; an unreadable alignment.
    """
    volumes = [load(path) for path in scan.channels]
    first = volumes[0]
    for path, volume in zip(scan.channels, volumes, strict=True):
        if volume.data.shape != first.data.shape:
            raise ValueError(
                f"{path}: shape {volume.data.shape}, {scan.name} has {first.data.shape}; run"
                " preprocessing again"
            )
    if arm in CLEANED:
        try:
            first = CLEANED[arm](first)
        except ValueError as error:
            raise ValueError(f"{scan.channels[0]}: {error}") from error
        volumes = [first]
    if scan.alignment is None:
        return Volume(np.stack([volume.data for volume in volumes]), first.affine)
    alignment = read_alignment(scan.alignment)
    if ALIGNED[arm] == "upright":
        first = turn_upright(first, alignment)
        return Volume(first.data[None], first.affine)
    data = np.stack([volume.data for volume in volumes]) * np.float32(volume_ratio(alignment))
    return Volume(data, first.affine)
