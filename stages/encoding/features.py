"""Step features: turn every stimulus into a series of features of one feature space."""

import hashlib
import logging
import tempfile
from collections.abc import Callable
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn

from stages.encoding.autoencoder import Autoencoder, to_pixels, train_autoencoder
from stages.encoding.extraction import (
    extract,
    luminance,
    motion,
    resolve_layer,
)
from stages.encoding.feature_cache import Extracted, extract_once
from stages.encoding.feature_file import Series, save_features
from stages.encoding.figures import draw_reconstructions
from stages.encoding.images import SIZE, fingerprint, to_tensor
from stages.encoding.provenance import RANDOM, REAL
from stages.encoding.stimuli import kind_of, read_frames, read_series, stimulus_name
from stages.encoding.weights import build_network

logger = logging.getLogger(__name__)

BASELINES = {"luminance": luminance, "motion": motion}
READY = "series"  # the feature space of series that were made elsewhere
SHOWN_RECONSTRUCTIONS = 6
BATCHES_TOLD = 20  # of so many, the log tells how far it is


def run(
    *,
    stimuli: list[str],
    vgg16: str | None,
    resnet50: str | None,
    features: str,
    network: str,
    reconstructions: str,
    model: str,
    frame_rate: float,
    frame_step: int,
    fit_frame: str,
    map_grid: int,
    batch_size: int,
    test: list[str],
    epochs: int,
    learning_rate: float,
    cache: str,
    seed: int,
) -> None:
    """Write the features of all stimuli for one feature space.

    Raises
    ------
    ValueError
        An unknown model or layer, weights of another network, or no stimulus of the right kind.
    """
    name = model.partition("+")[0]
    weights = {"vgg16": vgg16, "resnet50": resnet50, "autoencoder": resnet50}
    known = [*weights, *BASELINES, READY]
    if name not in known:
        raise ValueError(f"model {model!r}: no such feature space; there are {', '.join(known)}")
    paths = {stimulus_name(Path(path)): Path(path) for path in stimuli}
    about: dict[str, Any] = {"model": model, "weights": "none", "provenance": REAL}
    if name == READY:
        series = {n: Series(*read_series(p)) for n, p in paths.items() if kind_of(p) == "series"}
        _check_any(series, model, "feature series (.npy, .tsv, .tsv.gz)", paths)
        save_features(Path(features), series, about)
        return
    pictures = {n: p for n, p in paths.items() if kind_of(p) in ("movie", "image")}
    _check_any(pictures, model, "movies or images", paths)
    identity: list[Any] = [model, frame_rate, frame_step, fit_frame, map_grid]
    with tempfile.TemporaryDirectory(dir=Path(features).parent) as folder:
        decode = partial(
            _decode,
            folder=Path(folder),
            frame_rate=frame_rate,
            frame_step=frame_step,
            fit=fit_frame,
        )
        make: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
        if name in BASELINES:
            make = BASELINES[name]
        else:
            net, origin = _build(name, weights[name], seed)
            about |= {"weights": origin, "provenance": RANDOM if origin == RANDOM else REAL}
            if name == "autoencoder":
                net = _train(
                    net, pictures, decode, test, epochs, batch_size, learning_rate, seed, about
                )
                save_file(net.state_dict(), network)
                _draw_reconstructions(
                    net, decode(next(iter(pictures.values()))), Path(reconstructions)
                )
            about["layer"] = resolve_layer(net, model)
            identity += [about["layer"], _digest(net)]
            make = partial(_extract, net, about["layer"], map_grid, batch_size)

        def pass_through(path: Path) -> Extracted:
            frames = decode(path)
            logger.info("%s: %s, %d frames", model, stimulus_name(path), len(frames))
            hashes = np.array([fingerprint(frame) for frame in frames], dtype=np.int64)
            return make(frames), hashes

        series = {}
        for stimulus, path in pictures.items():
            place = Path(cache) if cache else None
            values, hashes = extract_once(path, identity, place, partial(pass_through, path))
            rate_hz = 0.0 if kind_of(path) == "image" else frame_rate / frame_step
            series[stimulus] = Series(values, rate_hz, 0.0, hashes)
        save_features(Path(features), series, about)


def _build(name: str, given: str | None, seed: int) -> tuple[Any, str]:
    """Build the network of a feature space on the device that there is."""
    kind = "resnet50" if name == "autoencoder" else name
    net, origin = build_network(kind, Path(given) if given else None, seed=seed)
    if origin == RANDOM:
        logger.warning("%s: its weights are random; give them with --weights %s=PATH", name, kind)
    return net.to("cuda" if torch.cuda.is_available() else "cpu"), origin


def _digest(net: nn.Module) -> str:
    """Hash a network's weights, wherever they are from."""
    digest = hashlib.sha256()
    for name, values in net.state_dict().items():
        digest.update(name.encode())
        digest.update(values.cpu().contiguous().numpy())
    return digest.hexdigest()


def _extract(
    net: nn.Module, layer: str, map_grid: int, batch_size: int, frames: NDArray[np.uint8]
) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(frames), batch_size):
        parts.append(extract(net, layer, frames[start : start + batch_size], map_grid=map_grid))
        if len(parts) % BATCHES_TOLD == 0:
            logger.info("%s: %d of %d frames", layer, start + batch_size, len(frames))
    return np.concatenate(parts)


def _draw_reconstructions(net: nn.Module, frames: NDArray[np.uint8], path: Path) -> None:
    picks = np.linspace(0, len(frames) - 1, SHOWN_RECONSTRUCTIONS).astype(int)
    device = next(net.parameters()).device
    with torch.inference_mode():
        made = to_pixels(net(to_tensor(frames[picks]).to(device)))
    draw_reconstructions(path, frames[picks], made)


def _train(
    net: Any,
    pictures: dict[str, Path],
    decode: Callable[[Path], NDArray[np.uint8]],
    test: list[str],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    about: dict[str, Any],
) -> Autoencoder:
    """Train an autoencoder on the stimuli that no test run shows."""
    training = [n for n in pictures if not any(fnmatch(n, pattern) for pattern in test)]
    if not training:
        raise ValueError(
            f"autoencoder: every stimulus matches {', '.join(test)} and is for testing; rename the"
            " training stimuli or change --encoding-test"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Autoencoder(net).to(next(net.parameters()).device)
    losses = train_autoencoder(
        model,
        _Stack([decode(pictures[n]) for n in training]),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    about["trained_on"] = training
    about["losses"] = losses
    return model


class _Stack:
    """Arrays on disk, one behind the other, as one sequence of frames."""

    def __init__(self, arrays: list[NDArray[np.uint8]]) -> None:
        self._arrays = arrays
        self._ends = np.cumsum([len(array) for array in arrays])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        which = int(np.searchsorted(self._ends, index, side="right"))
        return self._arrays[which][index - self._ends[which]]


def _decode(
    path: Path, *, folder: Path, frame_rate: float, frame_step: int, fit: str
) -> NDArray[np.uint8]:
    """Decode a stimulus to a file without a name, so that any number of frames fits in memory."""
    with tempfile.TemporaryFile(dir=folder) as stream:
        for frame in read_frames(path, frame_rate=frame_rate, frame_step=frame_step, fit=fit):
            stream.write(np.ascontiguousarray(frame).tobytes())
        stream.flush()
        # The map keeps the file's content; it is gone with the last frame that is in use.
        return np.memmap(stream, np.uint8, "r").reshape(-1, SIZE, SIZE, 3)


def _check_any(found: object, model: str, what: str, paths: dict[str, Path]) -> None:
    if not found:
        some = ", ".join(list(paths)[:5])
        raise ValueError(f"model {model!r} needs {what} in stimuli/, found {some}")
