"""Look for copies of training slices among synthetic ones.

Distances are between pixels at the size at which slices are judged, and the least over small moves
of one of the two, since a slice that is shifted, turned or scaled by a little is a copy still, as
models make that are trained on moved slices. A synthetic slice is a near copy if a training slice
is nearer to it than half the smallest distance that any held-out real slice has to a training
slice. Half is fixed beforehand: held-out slices are other people, so by this rule none of them is a
copy.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from stages.generation.augmentation import Moves, move, place_pixels

Array = NDArray[np.float64]

COPY_SHARE = 0.5
#: Moves that are tried, in units of the strongest that augmentation of strength 1 makes: shift in
#: either direction, turn, scale. What lies between them is found by descent.
STEPS = ((-1.0, 0.0, 1.0),) * 4
CANDIDATES = 3
DESCENT, RATE = 30, 0.1


def least_distances(slices: Array, among: Array) -> tuple[Array, NDArray[np.intp]]:
    """Compare rows of (n, D) with rows of (m, D), square images, 0 to 1.

    Returns
    -------
    distances : array, (n, m)
        Root mean square of the difference, the least over the moves of the second.
    moves : array, (n, m)
        Which of them.
    """
    square = np.full((len(slices), len(among)), np.inf)
    which = np.zeros(square.shape, np.intp)
    own = (slices**2).sum(1)[:, None]
    for number, amounts in enumerate(itertools.product(*STEPS)):
        moved = among
        if any(amounts):
            moved = _rows(_moved(_images(among), torch.tensor([amounts] * len(among))))
        found = own - 2 * slices @ moved.T + (moved**2).sum(1)
        which[found < square] = number
        np.minimum(square, found, out=square)
    return np.sqrt(np.maximum(square, 0) / slices.shape[1]), which


def nearest(slices: Array, among: Array) -> tuple[Array, NDArray[np.intp]]:
    """Find for each row of (n, D) its nearest row of (m, D): root mean square distance, place.

    The likeliest rows are moved on from the best move tried, by descent.
    """
    distances, moves = least_distances(slices, among)
    places = np.argsort(distances, 1)[:, :CANDIDATES]
    rows = np.repeat(np.arange(len(slices)), places.shape[1])
    tried = torch.tensor(list(itertools.product(*STEPS)))
    found = _descend(
        _images(slices[rows]),
        _images(among[places.ravel()]),
        tried[moves[rows, places.ravel()]],
    )
    refined = np.minimum(found.reshape(places.shape), np.take_along_axis(distances, places, 1))
    best = refined.argmin(1)
    every = np.arange(len(slices))
    return refined[every, best], places[every, best]


def _descend(slices: Tensor, among: Tensor, start: Tensor) -> Array:
    """Move each image towards its partner; return the least root mean square on the way."""
    amounts = start.clone().requires_grad_()
    least = torch.full((len(start),), math.inf)
    optimiser = torch.optim.Adam([amounts], lr=RATE)
    for _ in range(DESCENT):
        square = (_moved(among, amounts) - slices).square().mean((1, 2, 3))
        least = torch.minimum(least, square.detach())
        optimiser.zero_grad()
        square.sum().backward()
        optimiser.step()
        with torch.no_grad():
            amounts.clamp_(-1.25, 1.25)
    return (least.sqrt() / 2).double().numpy()  # images reach from -1 to 1


def _moved(images: Tensor, amounts: Tensor) -> Tensor:
    x, y, turn, grow = amounts.unbind(1)
    one = torch.ones(len(images))
    return move(images, Moves(place_pixels(x, y, turn, grow, one), one))


def _images(rows: Array) -> Tensor:
    edge = math.isqrt(rows.shape[1])
    return 2 * torch.from_numpy(rows).float().view(-1, 1, edge, edge) - 1


def _rows(images: Tensor) -> Array:
    return (images.flatten(1).double().numpy() + 1) / 2


def audit_copies(
    made: Array,
    train: Array,
    held_out: Array,
    *,
    redraws: int,
    seed: int,
    find: Callable[[Array, Array], tuple[Array, NDArray[np.intp]]] = nearest,
) -> tuple[dict[str, Any], NDArray[np.bool_], NDArray[np.intp], Array]:
    """Look for copies.

    Parameters
    ----------
    made, train, held_out : array, (n, D)
        Pixels, 0 to 1.
    find
        Finds distance and place of the nearest, as ``nearest`` does.

    Returns
    -------
    numbers : dict
        Median nearest distances, their ratio (below 1: synthetic slices are nearer to training
        slices than other people are), share of near copies, and how well training slices are told
        from held-out ones by their nearest synthetic slice (AUC; .5: not at all).
    is_copy : array, (n,)
    place : array, (n,)
        The nearest training slice.
    distance : array, (n,)
    """
    distance, place = find(made, train)
    reference, _ = find(held_out, train)
    limit = COPY_SHARE * float(reference.min())
    is_copy = distance <= limit
    member, other = (find(real, made)[0] for real in (train, held_out))
    low, high = _auc_interval(other, member, redraws, seed)
    numbers = {
        "n": len(made),
        "nearest_training_rms": float(np.median(distance)),
        "held_out_nearest_training_rms": float(np.median(reference)),
        "ratio": float(np.median(distance) / max(float(np.median(reference)), 1e-12)),
        "copy_limit_rms": limit,
        "copies": int(is_copy.sum()),
        "copy_rate": float(is_copy.mean()),
        "membership_auc": _auc(other, member),
        "membership_auc_low": low,
        "membership_auc_high": high,
        "n_training": len(train),
        "n_held_out": len(held_out),
    }
    return numbers, is_copy, place, distance


def _auc(larger: Array, smaller: Array) -> float:
    return float(stats.mannwhitneyu(larger, smaller).statistic / (len(larger) * len(smaller)))


def _auc_interval(x: Array, y: Array, redraws: int, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    draws = [_auc(rng.choice(x, len(x)), rng.choice(y, len(y))) for _ in range(redraws)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
