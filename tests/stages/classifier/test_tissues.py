"""Fractions of tissues as channels, from files to maps: what only head size tells is found."""

import json

import nibabel as nib
import numpy as np
import pytest

from stages.classifier.portable import Judge
from stages.classifier.statistics import balanced_accuracy
from stages.classifier.tables import read_rows
from tests.stages.classifier.toys import (
    SIDE,
    run_combine,
    run_explain,
    run_predict,
    run_prepare,
    run_train,
    sized,
)

FAST = {"epochs": 4, "widths": [8, 8], "convolutions": 1}


def held_out(folders):
    rows = [
        row for f in folders for row in read_rows(f / "predictions.tsv") if row["set"] == "fold"
    ]
    true = np.array([["F", "M"].index(row["label"]) for row in rows])
    return true, np.array([[float(row["p_F"]), float(row["p_M"])] for row in rows])


@pytest.fixture(scope="module")
def tissues(tmp_path_factory):
    """A cohort whose classes differ in head size alone, and networks of its two folds."""
    root = tmp_path_factory.mktemp("tissues")
    cohort = sized(root / "bids")
    prepared = run_prepare(cohort, root / "plans")
    models = [
        run_train(prepared, root / "models", arm="mnitissues", fold=fold, **FAST) for fold in (0, 1)
    ]
    return cohort, prepared, models, root


def test_size_is_told_from_modulated_tissues_and_not_without(tissues, tmp_path):
    cohort, prepared, *_ = tissues
    modulated = [
        run_train(prepared, tmp_path, arm="mnitissues", fold=fold, network="linear")
        for fold in (0, 1)
    ]
    assert balanced_accuracy(*held_out(modulated)) >= 0.85
    plain = run_prepare(cohort, tmp_path / "plans", arm="mnigmfraction")
    fraction = [
        run_train(plain, tmp_path, arm="mnigmfraction", fold=fold, network="linear")
        for fold in (0, 1)
    ]
    assert balanced_accuracy(*held_out(fraction)) <= 0.7


def test_the_card_names_the_channels_and_the_program_takes_them(tissues, tmp_path):
    _, prepared, models, _ = tissues
    card = json.loads((models[0] / "model.json").read_text())
    assert card["Input"]["Channels"] == ["GM", "WM", "CSF"]
    assert card["Architecture"]["options"]["channels"] == 3
    stack = np.load(prepared["images"])
    assert stack.shape == (40, 3, SIDE, SIDE, SIDE)
    joined = run_combine(models, tmp_path / "joined", arm="mnitissues")
    expected = np.mean([Judge(folder)(stack[:2]) for folder in models], axis=0)
    assert np.allclose(Judge(joined)(stack[:2]), expected, atol=1e-4)


def test_a_person_is_judged_and_explained_from_files(tissues, tmp_path):
    cohort, _, models, _ = tissues
    (row,) = read_rows(run_predict(cohort, 3, tmp_path, models=models))
    own = [
        r
        for folder in models
        for r in read_rows(folder / "predictions.tsv")
        if r["set"] == "fold" and r["participant_id"] == "sub-004"
    ]
    assert float(row["p_M"]) == pytest.approx(float(own[0]["p_M"]), abs=1e-4)
    maps = run_explain(cohort, 3, models, tmp_path)
    for name in ("gradcam", "smoothgrad", "integrated", "occlusion"):
        found = nib.load(maps[name])
        assert found.shape == (SIDE,) * 3 and np.abs(found.get_fdata()).max() > 0
