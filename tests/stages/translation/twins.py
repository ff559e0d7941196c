"""Twins: the same slice of a brain young and old, so that the exact counterfactual is known.

A slice of the ICBM template that nilearn bundles is deformed smoothly, a different way for every
person. Age takes 35 % of the grey matter of a fronto-parietal mask and widens the ventricles by one
pixel of 4 mm; noise is drawn anew for either twin. Networks never see who is whose twin.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from stages.translation.cyclegan import Networks
from stages.translation.evaluation import apply
from stages.translation.networks import Generator, PatchDiscriminator, initialise
from stages.translation.training import Samples, Settings, train

SLICE_MM, SPACING_MM = 20.0, 4.0
TISSUE = {"gm": 0.55, "wm": 0.9, "csf": 0.15}
GM_LOSS = 0.35
VENTRICLE_PX = 1
NOISE = 0.03
LEAST_CHANGE = 0.05  # of 0 … 1, without noise: what counts as changed by age
MARGIN = 3


@dataclass(frozen=True)
class Template:
    """Fractions on the slice, (a, b), and where age acts."""

    gm: np.ndarray
    wm: np.ndarray
    csf: np.ndarray
    ageing: np.ndarray
    ventricles: np.ndarray


@dataclass(frozen=True)
class Twins:
    """Images, (n, 1, a, b) in −1 … 1, and each person's truth."""

    young: np.ndarray
    old: np.ndarray
    changed: np.ndarray  # (n, a, b), bool: where age changes the image
    brain: np.ndarray  # (n, a, b), bool


@cache
def load_template() -> Template:
    """Read the slice at 4 mm and mark where age acts."""
    from nilearn import datasets

    maps = {}
    for name, fetch in (
        ("gm", datasets.load_mni152_gm_template),
        ("wm", datasets.load_mni152_wm_template),
    ):
        image = fetch(resolution=1)
        data = np.asarray(image.dataobj, dtype=np.float32)
        affine = image.affine
        maps[name] = data / data.max()
    brain = np.asarray(datasets.load_mni152_brain_mask(resolution=1).dataobj) > 0
    k = round((SLICE_MM - affine[2, 3]) / affine[2, 2])
    zoom = 1 / SPACING_MM
    cut = {n: ndimage.zoom(m[:, :, k - 1 : k + 2].mean(2), zoom, order=1) for n, m in maps.items()}
    inside = ndimage.zoom(brain[:, :, k].astype(np.float32), zoom, order=1) > 0.5
    gm, wm = cut["gm"] * inside, cut["wm"] * inside
    csf = np.clip(inside - gm - wm, 0, 1)
    rows = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    box = tuple(_frame(r) for r in rows)
    gm, wm, csf, inside = (_cut(a, box) for a in (gm, wm, csf, inside))
    y = np.linspace(0, 1, gm.shape[1])[None]
    ageing = (gm > 0.3) & ((y > 0.72) | ((y > 0.12) & (y < 0.36)))
    core = ndimage.binary_erosion(inside, iterations=5)
    labels, _ = ndimage.label((csf > 0.4) & core & (y > 0.38) & (y < 0.7))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    ventricles = np.isin(labels, np.flatnonzero(sizes >= 3))
    return Template(gm, wm, csf, ageing, ventricles)


def make_twins(n: int, *, seed: int) -> Twins:
    """Draw n people, young and old."""
    t = load_template()
    rng = np.random.default_rng(seed)
    young, old, changed, brains = [], [], [], []
    for _ in range(n):
        shift = _draw_warp(rng, t.gm.shape)
        gain = rng.normal(1, 0.03)
        wide = ndimage.binary_dilation(t.ventricles, iterations=VENTRICLE_PX)
        loss = 1 - GM_LOSS * t.ageing
        now = {"gm": t.gm, "wm": t.wm, "csf": t.csf}
        later = {
            "gm": np.where(wide, 0, t.gm * loss),
            "wm": np.where(wide, 0, t.wm),
            "csf": np.where(wide, 1, t.csf),
        }
        pure = [
            gain * sum(TISSUE[name] * _warp(fraction, shift) for name, fraction in person.items())
            for person in (now, later)
        ]
        for image, listed in zip(pure, (young, old), strict=True):
            noisy = image + rng.normal(0, NOISE, t.gm.shape)
            listed.append(np.clip(noisy, 0, 1)[None] * 2 - 1)
        changed.append(np.abs(pure[1] - pure[0]) > LEAST_CHANGE)
        brains.append(_warp(t.gm + t.wm + t.csf, shift) > 0.5)
    stack = [np.stack(a).astype(np.float32) for a in (young, old)]
    return Twins(*stack, np.stack(changed), np.stack(brains))


def ncc(a: np.ndarray, b: np.ndarray) -> float:
    """Correlate two maps over all their pixels; NaN if one is constant."""
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size else np.nan


def _draw_warp(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    field = ndimage.gaussian_filter(rng.normal(size=(2, *shape)), (0, 3, 3))
    field *= 0.75 / field.std()
    middle = (np.array(shape) - 1) / 2
    grid = np.indices(shape, dtype=float)
    scale = rng.normal(0, 0.02)
    return grid + field + scale * (grid - middle[:, None, None])


def _warp(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    return ndimage.map_coordinates(image, where, order=1)


def _frame(occupied: np.ndarray) -> tuple[int, int]:
    """Frame what is occupied with a margin, in a multiple of four."""
    n = -(-(occupied[-1] - occupied[0] + 1 + 2 * MARGIN) // 4) * 4
    first = (occupied[0] + occupied[-1] + 1) // 2 - n // 2
    return int(first), int(n)


def _cut(image: np.ndarray, box: tuple[tuple[int, int], ...]) -> np.ndarray:
    padded = np.pad(image, 40)
    (a, n), (b, m) = box
    return padded[a + 40 : a + 40 + n, b + 40 : b + 40 + m]


def pick_pair(people: Twins, pair: str) -> tuple[np.ndarray, np.ndarray]:
    """Choose whom networks learn from: young and other people old, or two halves of the young.

    ``reversed`` calls the old young and the young old.
    """
    half = len(people.young) // 2
    young, old = people.young[:half], people.old[half:]
    if pair == "null":
        return young, people.young[half:]
    return (old, young) if pair == "reversed" else (young, old)


def train_pair(x, y, folder: Path, *, epochs: int, decay: int, seed: int, **changes) -> Networks:
    """Train small networks from x to y; ``changes`` are of the settings."""
    is_residual = changes.pop("is_residual", True)
    options = {"features": 16, "blocks": 3, "is_residual": is_residual}
    nets = Networks(
        G=Generator(**options),
        F=Generator(**options),
        D_X=PatchDiscriminator(features=16, strides=2),
        D_Y=PatchDiscriminator(features=16, strides=2),
    )
    draws = torch.Generator().manual_seed(seed)
    for network in nets.named().values():
        initialise(network, draws)
    settings = Settings(
        epochs=epochs,
        decay_epochs=decay,
        batch_size=4,
        learning_rate=1e-3,
        cycle_weight=10.0,
        identity_weight=0.5,
        pool_size=50,
        augment=False,
        precision="float32",
        seed=seed,
    )
    settings = replace(settings, **changes)
    samples = [Samples(np.ascontiguousarray(a), np.zeros(len(a), np.int64)) for a in (x, y)]
    train(nets, *samples, settings, state_path=folder / "state.pt", identity="")
    return nets


def translate(nets: Networks, test: Twins) -> dict[str, np.ndarray]:
    """Translate the young to old and the old to young."""
    return {"toOld": apply(nets.G, test.young), "toYoung": apply(nets.F, test.old)}


def pick_test(test: Twins, pair: str) -> Twins:
    """Choose who is translated by networks of a pair; of two halves of the young, the young."""
    if pair == "null":
        return replace(test, old=test.young)
    return replace(test, young=test.old, old=test.young) if pair == "reversed" else test


def measure(nets: Networks, test: Twins) -> dict[str, dict[str, float]]:
    """Compare translations of unseen people with their twins, both ways.

    ``inside`` is where age changes most of them, ``outside`` where it changes at most a tenth.
    ``auc`` ranks all of the brain's pixels by how much they are changed on average; ``truth_auc``
    does so with the twins' own difference.
    """
    share = test.changed.mean(0)
    brain = test.brain.mean(0) > 0.5
    region, outside = brain & (share > 0.5), brain & (share <= 0.1)
    made = translate(nets, test)
    found = {}
    for direction, start, end in (
        ("toOld", test.young, test.old),
        ("toYoung", test.old, test.young),
    ):
        change, truth = (made[direction] - start)[:, 0], (end - start)[:, 0]
        mean, true_mean = change.mean(0), truth.mean(0)
        size = np.abs(mean)
        found[direction] = {
            "ncc_group": ncc(mean, true_mean),
            "ncc_person": float(np.mean([ncc(a, b) for a, b in zip(change, truth, strict=True)])),
            "auc": roc_auc_score(region[brain], size[brain]),
            "truth_auc": roc_auc_score(region[brain], np.abs(true_mean)[brain]),
            "inside": float(mean[region].mean()),
            "truth_inside": float(true_mean[region].mean()),
            "outside": float(mean[outside].mean()),
            "outside_over_inside": float(size[outside].mean() / size[region].mean()),
        }
    return found


def train_judge(people: Twins, *, steps: int = 80) -> torch.nn.Module:
    """Train a small network to tell old from young on people of its own."""
    half = len(people.young) // 2
    images = torch.from_numpy(np.concatenate([people.young[:half], people.old[half:]]))
    labels = torch.tensor([0.0] * half + [1.0] * half)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers: list[torch.nn.Module] = []
        for before, after in ((1, 8), (8, 16), (16, 32)):
            layers += [
                torch.nn.Conv2d(before, after, 3, 2, 1),
                torch.nn.BatchNorm2d(after),
                torch.nn.ReLU(),
            ]
        network = torch.nn.Sequential(
            *layers, torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(512, 1)
        )
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        rows = torch.from_numpy(rng.choice(2 * half, 16, replace=False))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            network(images[rows])[:, 0], labels[rows]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def judge_old(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Tell who is judged old, (n,)."""
    with torch.inference_mode():
        return (network(torch.from_numpy(images))[:, 0] > 0).numpy()
