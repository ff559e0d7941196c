"""Reading stimuli: movies frame by frame, images, and feature series made elsewhere."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.encoding.images import resize

MOVIES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".gif")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
SERIES = (".npy", ".tsv", ".tsv.gz")

Frames = Iterator[NDArray[np.uint8]]


def stimulus_name(path: Path) -> str:
    """Name a stimulus as ``stim_file`` in events does: by its path inside ``stimuli``.

    >>> stimulus_name(Path("/data/stimuli/clips/a.mp4"))
    'clips/a.mp4'
    """
    parts = path.parts
    if "stimuli" not in parts:
        return path.name
    return "/".join(parts[len(parts) - parts[::-1].index("stimuli") :])


def kind_of(path: Path) -> str:
    """Tell what a file is by its name: movie, image, series, or nothing we know ('')."""
    name = path.name.lower()
    for kind, endings in (("movie", MOVIES), ("image", IMAGES), ("series", SERIES)):
        if name.endswith(endings):
            return kind
    return ""


def read_frames(path: Path, *, frame_rate: float, frame_step: int, fit: str) -> Frames:
    """Yield every ``frame_step``-th still of a movie cut at ``frame_rate``, or the one of an image.

    A still is what was on the screen at its time: the last frame that began at or before it.

    Parameters
    ----------
    path : Path
        Movie or image.
    frame_rate : float
        Stills per second.
    frame_step : int
        Of these, every how many are yielded.
    fit : str
        How frames become 224 × 224: ``stretch`` or ``crop``.

    Yields
    ------
    frame : array, (224, 224, 3), uint8

    Raises
    ------
    ValueError
        The file cannot be decoded, or holds no picture.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path}: no pictures in it, only sound or text")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            begin = None
            shown, index = None, 0
            end = 0.0
            for frame in container.decode(stream):
                begin = frame.time if begin is None else begin
                since = (frame.time or 0.0) - (begin or 0.0)
                while shown is not None and index * frame_step / frame_rate < since - 1e-6:
                    yield _to_frame(shown, fit)
                    index += 1
                shown = frame
                end = since + float(1 / (stream.average_rate or 1))
            if shown is None:
                raise ValueError(f"{path}: no picture could be decoded from it")
            if kind_of(path) == "image":
                yield _to_frame(shown, fit)
                return
            while index * frame_step / frame_rate < end - 1e-6:
                yield _to_frame(shown, fit)
                index += 1
    except av.error.FFmpegError as error:
        raise ValueError(f"{path}: cannot be decoded ({error}); is the file whole?") from error


def read_series(path: Path) -> tuple[NDArray[np.float32], float, float]:
    """Read a feature series: (samples, features), its rate in Hz and its start in s.

    ``.tsv.gz`` follows BIDS' continuous recordings: no header, the JSON beside it names Columns,
    SamplingFrequency and StartTime. ``.tsv`` has a header; ``.npy`` is the array.

    Raises
    ------
    ValueError
        The JSON lacks SamplingFrequency, or values are not finite numbers.
    FileNotFoundError
        No JSON beside the series.
    """
    sidecar = path.with_name(path.name.split(".")[0] + ".json")
    if not sidecar.is_file():
        raise FileNotFoundError(f"{sidecar}: missing; it must give the SamplingFrequency of {path}")
    about: dict[str, Any] = json.loads(sidecar.read_text(encoding="utf-8-sig"))
    if "SamplingFrequency" not in about:
        raise ValueError(f"{sidecar}: no SamplingFrequency (Hz), so frames have no times")
    if path.suffix == ".npy":
        values = np.load(path, allow_pickle=False)
    else:
        content = path.read_bytes()
        lines = (gzip.decompress(content) if path.suffix == ".gz" else content).decode().split("\n")
        values = np.genfromtxt(lines[int(path.suffix == ".tsv") :], delimiter="\t", ndmin=2)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(
            f"{path}: found shape {values.shape}, {int((~np.isfinite(values)).sum())} cells without"
            " a finite number; expected samples × features, every cell filled"
        )
    start_s = float(about.get("StartTime", 0.0))
    return values.astype(np.float32), float(about["SamplingFrequency"]), start_s


def _to_frame(picture: Any, fit: str) -> NDArray[np.uint8]:
    return resize(picture.to_ndarray(format="rgb24"), fit=fit)
