"""Small cohorts with a planted effect, written as the stages before this one write theirs."""

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
from scipy import io, ndimage

import specs
from stages.classifier import combine, evaluate, explain, predict, prepare, train
from stages.classifier.tables import write_rows

SPEC = specs.load("classifier")
SIDE = 16
INPUTS = ("harmonized", "registered", "own", "fractions")
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
        images=paths,
        alignments=[],
        participants=str(root / "participants.tsv"),
        root=root,
        arm=arm,
    )


def planted(root, *, n=40, effect=0.5, seed=0, arm="mnigm"):
    """Write a cohort whose classes differ by the sign of the pattern inside the region."""
    rng = np.random.default_rng(seed)
    sexes = ["F", "M"] * (n // 2)
    ages = rng.uniform(20, 80, n).round(1)
    images = [head(rng, effect=effect if sex == "M" else -effect) for sex in sexes]
    return write_cohort(root, images, sexes, ages, arm=arm)


def sized(root, *, n=40, effect=0.06, seed=0):
    """Write fractions of tissues whose classes differ in head size alone, which alignment hides."""
    rng = np.random.default_rng(seed)
    sexes = ["F", "M"] * (n // 2)
    cohort = write_cohort(root, [head(rng) for _ in sexes], sexes, rng.uniform(20, 80, n).round(1))
    cohort.arm, heads, cohort.images = "mnitissues", cohort.images, []
    for path, sex in zip(heads, sexes, strict=True):
        grey = np.clip(nib.load(path).get_fdata(dtype=np.float32) / 3, 0, 1)
        rest = np.where(grey > 0, 1 - grey, 0)
        stem = path.removesuffix("_desc-GM_T1w.nii.gz")
        for label, fraction in {"GM": grey, "WM": 0.6 * rest, "CSF": 0.4 * rest}.items():
            cohort.images.append(f"{stem}_label-{label}_probseg.nii.gz")
            image = nib.Nifti1Image(fraction.astype(np.float32), nib.load(path).affine)
            image.to_filename(cohort.images[-1])
        ratio = 1 + (effect if sex == "M" else -effect) + 0.02 * rng.normal()
        matrix = np.concatenate([np.diag([ratio, 1.0, 1.0]).ravel(), np.zeros(3)])[:, None]
        name = stem.partition("_space")[0] + "_from-T1w_to-MNI152NLin2009aSym_mode-image_xfm.mat"
        io.savemat(name, {"AffineTransform_double_3_3": matrix, "fixed": np.zeros((3, 1))})
        cohort.alignments.append(name)
    return cohort


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
        **_by_input(cohort.images, arm, cohort.alignments),
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
        **_of_person(cohort, index),
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
        **_of_person(cohort, index),
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


def _of_person(cohort, index):
    """Give the files of one person to the inputs that take them."""
    each = len(cohort.images) // max(1, len(cohort.alignments) or len(cohort.images))
    own = cohort.images[index * each : (index + 1) * each]
    return _by_input(own, cohort.arm, cohort.alignments[index : index + 1])


def _by_input(images, arm, alignments):
    """Give images to the input that takes the arm's, nothing to the others."""
    kind = "registered" if arm.startswith("mni") else "own" if arm == "ownbrain" else "harmonized"
    kind = "fractions" if arm == "mnitissues" else kind
    return {**{key: [] for key in INPUTS}, kind: images, "alignments": alignments}


def _model_files(folder):
    return {
        "model": str(folder / "model.json"),
        "weights": str(folder / "model.safetensors"),
        "graph": str(folder / "model.onnx"),
    }
