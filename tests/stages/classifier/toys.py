"""Small cohorts with a planted effect, written as the stages before this one write theirs."""

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
from scipy import ndimage

import specs
from stages.classifier import combine, evaluate, explain, predict, prepare, train
from stages.classifier.tables import write_rows

SPEC = specs.load("classifier")
SIDE = 16
REGION = (slice(3, 7), slice(9, 13), slice(6, 10))  # where the classes differ
PATTERN = np.repeat([1.0, -1.0], 2)[:, None, None]


def head(rng, *, effect=0.0, scale=1.0, side=SIDE):
    """Make a ball with smooth texture and, inside the region, ``effect`` times the pattern.

    The pattern adds to one half what it takes from the other, so the image's mean stays, and with
    its sign turned the variance too: otherwise standardising would spread a regional effect over
    the whole head.
    """
    grid = np.indices((side,) * 3) - (side - 1) / 2
    inside = (grid**2).sum(axis=0) < (0.46 * side * scale) ** 2
    texture = ndimage.gaussian_filter(rng.normal(size=(side,) * 3), 1.5)
    image = 1 + 0.3 * texture / texture.std()
    image[REGION] += effect * PATTERN
    return np.where(inside, np.clip(image, 0.05, None), 0).astype(np.float32)


def write_cohort(root, images, sexes, ages, *, arm="mnigm", zoom=4.0, sites=None):
    """Write images of an arm and participants.tsv; return their paths."""
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    names = {"mnigm": "space-MNI152NLin2009aSym_res-1_desc-GM", "ownbrain": "desc-brain"}
    name = names.get(arm, f"desc-{arm}")
    paths, people = [], []
    for index, image in enumerate(images):
        label = f"sub-{index + 1:03d}"
        path = root / f"{label}_{name}_T1w.nii.gz"
        nib.Nifti1Image(image, np.diag([zoom, zoom, zoom, 1.0])).to_filename(path)
        paths.append(str(path))
        people.append({"participant_id": label, "age": ages[index], "sex": sexes[index]})
        if sites:
            people[-1]["site"] = sites[index]
    write_rows(root / "participants.tsv", people)
    description = {"Name": "toys", "GeneratedBy": [{"Name": "phantom"}]}
    (root / "dataset_description.json").write_text(json.dumps(description))
    return SimpleNamespace(
        images=paths, participants=str(root / "participants.tsv"), root=root, arm=arm
    )


def planted(root, *, n=40, effect=0.5, seed=0, arm="mnigm"):
    """Write a cohort whose classes differ by the sign of the pattern inside the region."""
    rng = np.random.default_rng(seed)
    sexes = ["F", "M"] * (n // 2)
    ages = rng.uniform(20, 80, n).round(1)
    images = [head(rng, effect=effect if sex == "M" else -effect) for sex in sexes]
    return write_cohort(root, images, sexes, ages, arm=arm)


def defaults(step, **given):
    """Give a step's parameters as its spec has them, small where that saves time."""
    names = SPEC.steps[step].params
    small = {"grid_mm": 0.0, "folds": 2, "epochs": 2, "batch_size": 4, "learning_rate": 0.003}
    small |= {"linear_mm": 8.0, "inner_folds": 4, "patience": 0, "bootstraps": 99}
    small |= {"permutations": 99}
    assert set(given) <= set(names), set(given) - set(names)
    return {name: given.get(name, small.get(name, param.default)) for name, param in names.items()}


def run_prepare(cohort, out, *, dealt=None, seed=0, **params):
    """Run prepare; return the paths of its outputs."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    arm = params.setdefault("arm", cohort.arm)
    outputs = {
        "cohort": out / f"desc-{arm}_cohort.tsv",
        "images": out / f"desc-{arm}_images.npy",
        "grid": out / f"desc-{arm}_grid.json",
    }
    params.setdefault("target", ["sex"])
    prepare.run(
        participants=cohort.participants,
        **_by_input(cohort.images, arm),
        dealt=dealt,
        **{k: str(v) for k, v in outputs.items()},
        **defaults("prepare", **params),
        seed=seed,
    )
    return {k: str(v) for k, v in outputs.items()}


def run_train(prepared, out, *, pretrained=None, seed=0, **params):
    """Run train; return the model's folder."""
    params = {"target": "sex", "arm": "mnigm", "network": "bn", "fold": 0, **params}
    folder = Path(out) / (
        f"target-{params['target']}_arm-{params['arm']}_net-{params['network']}"
        f"_fold-{params['fold']}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    train.run(
        **prepared,
        pretrained=pretrained,
        **_model_files(folder),
        predictions=str(folder / "predictions.tsv"),
        history=str(folder / "history.tsv"),
        **defaults("train", **params),
        seed=seed,
    )
    return folder


def run_combine(folders, out, **params):
    """Run combine; return the model's folder."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    params = {"target": "sex", "arm": "mnigm", "network": "bn", **params}
    combine.run(
        predictions=[str(f / "predictions.tsv") for f in folders],
        **_model_files(folder),
        **params,
        seed=0,
    )
    return folder


def run_predict(cohort, index, out, *, models=(), model=None, **params):
    """Run predict on one image; return the path of the table."""
    path = Path(out) / "sub_desc-classifier_predictions.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    predict.run(
        scan="sub_T1w.nii.gz",
        participants=cohort.participants,
        **_by_input([cohort.images[index]], cohort.arm),
        models=[str(f / "model.json") for f in models],
        model=None if model is None else str(model),
        predictions=str(path),
        **defaults("predict", arm=[cohort.arm], **params),
        seed=0,
    )
    return path


def run_explain(cohort, index, models, out, **params):
    """Run explain on one image; return the paths of maps and figure."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    maps = ("gradcam", "smoothgrad", "integrated", "occlusion")
    outputs = {name: str(out / f"sub_stat-{name}_T1wmap.nii.gz") for name in maps}
    outputs["mosaic"] = str(out / "sub_T1wmap.png")
    params = {"target": "sex", "arm": cohort.arm, "explained": "bn", **params}
    explain.run(
        scan="sub_T1w.nii.gz",
        **_by_input([cohort.images[index]], cohort.arm),
        models=[str(f / "model.json") for f in models],
        **outputs,
        **defaults("explain", **params),
        seed=0,
    )
    return {name: Path(path) for name, path in outputs.items()}


def run_evaluate(cohort, folders, out, **params):
    """Run evaluate; return the paths of its outputs."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    ends = {"headline": ".json"}
    outputs = {
        name: str(out / f"{name}{ends.get(name, '.png' if 'figure' in name else '.tsv')}")
        for name in SPEC.steps["evaluate"].outputs
    }
    evaluate.run(
        participants=cohort.participants,
        predictions=[str(f / "predictions.tsv") for f in folders],
        histories=[str(f / "history.tsv") for f in folders],
        **outputs,
        **defaults("evaluate", **params),
        seed=0,
    )
    return {name: Path(path) for name, path in outputs.items()}


def _by_input(images, arm):
    """Give images to the input that takes the arm's, nothing to the others."""
    kind = "registered" if arm.startswith("mni") else "own" if arm == "ownbrain" else "harmonized"
    return {"harmonized": [], "registered": [], "own": [], "fractions": []} | {kind: images}


def _model_files(folder):
    return {
        "model": str(folder / "model.json"),
        "weights": str(folder / "model.safetensors"),
        "graph": str(folder / "model.onnx"),
    }
