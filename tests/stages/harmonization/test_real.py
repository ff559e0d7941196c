"""Real data: IXI heads with slices cut, tied to sex or not; IXI volumes of three scanners."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from stages.harmonization.batch_effects import apply_combat, fit_combat
from stages.harmonization.combat import site_auc
from tests.conftest import SHARED_DATA
from tests.stages.harmonization.phantoms import Cohort, tie
from tests.stages.harmonization.steps import run_audit, run_fingerprint

HEADS = SHARED_DATA / "bids_ixi_hh"
TABLES = SHARED_DATA / "tables"
CUT = 12  # of 90 slices of 2 mm, six at each end: air and scalp, never brain


def make_heads(root: Path, *, share: float, seed: int = 0) -> Cohort:
    """Write the IXI heads with brain masks from third-party labels, some of them with slices cut.

    P(full | M) = P(cut | F) = ``share``: .85 ties the slice count to sex, .5 does not.
    """
    cohort = Cohort(root)
    with open(HEADS / "participants.tsv") as handle:
        people = [r for r in csv.DictReader(handle, delimiter="\t") if r["sex"] in ("M", "F")]
    cuts = tie([p["sex"] for p in people], share=share, cut=CUT, seed=seed)
    lines = ["participant_id\tage\tsex"]
    for person, cut in zip(people, cuts, strict=True):
        name = person["participant_id"]
        image = nib.as_closest_canonical(nib.load(HEADS / name / "anat" / f"{name}_T1w.nii.gz"))
        (labels,) = (HEADS / "derivatives" / "dlmuse" / name).rglob("*.nii.gz")
        inside = np.asarray(nib.as_closest_canonical(nib.load(labels)).dataobj) > 0
        inside = ndimage.binary_fill_holes(ndimage.binary_closing(inside, iterations=3))
        kept = slice(cut // 2, inside.shape[0] - cut // 2)
        assert not inside[: cut // 2].any() and not inside[kept.stop :].any()
        affine = image.affine @ nib.affines.from_matvec(np.eye(3), [cut // 2, 0, 0])
        folder = root / name / "anat"
        folder.mkdir(parents=True)
        head = np.asarray(image.dataobj, dtype=np.float32)[kept]
        mask = inside[kept].astype(np.uint8)
        for data, desc, listed in (
            (head, "preproc_T1w", cohort.images),
            (mask, "brain_mask", cohort.masks),
        ):
            path = folder / f"{name}_desc-{desc}.nii.gz"
            nib.Nifti1Image(data, affine).to_filename(path)
            listed.append(str(path))
        lines.append(f"{name}\t{person['age']}\t{person['sex']}")
    cohort.participants = str(root / "participants.tsv")
    Path(cohort.participants).write_text("\n".join(lines) + "\n")
    return cohort


def audit_heads(root: Path, share: float, arms: list[str], seed: int = 0, **options) -> dict:
    """Make the heads, draw, audit; return the report."""
    cohort = make_heads(root, share=share, seed=seed)
    drawn = run_fingerprint(cohort, root / "plans", arm=arms)
    paths = run_audit(cohort, drawn, root / "plans", arm=arms, **options)
    return json.loads(paths["verdict"].read_text())


@pytest.mark.slow
@pytest.mark.skipif(not HEADS.is_dir(), reason=f"{HEADS} is not there")
def test_slices_tied_to_sex_are_told_from_slices_that_are_not(tmp_path):
    arms = ["zerobackground", "resize", "isotropic"]
    tied = audit_heads(tmp_path / "tied", 0.85, arms, audit_epochs=15)
    loose = audit_heads(tmp_path / "loose", 0.5, arms, audit_epochs=15)
    print(tied["Headline"], loose["Headline"], sep="\n")
    verdicts = {arm: (tied["Arms"][arm]["Verdict"], loose["Arms"][arm]["Verdict"]) for arm in arms}
    assert verdicts == {
        "zerobackground": ("FAIL", "PASS"),
        "resize": ("FAIL", "PASS"),
        "isotropic": ("WARN", "PASS"),
    }
    for report in (tied, loose):
        assert report["Provenance"] == "real"
        assert report["Arms"]["isotropic"]["flips"] == 0
        assert report["Arms"]["isotropic"]["image"]["low"] > 0.5  # brains do tell the sex


@pytest.mark.skipif(not TABLES.is_dir(), reason=f"{TABLES} is not there")
def test_combat_on_volumes_of_three_scanners():
    """Regional volumes (as share of the intracranial) of 244 people scanned at Guys, HH and IOP."""
    with open(TABLES / "ixi_demog.csv") as handle:
        people = {row["ID"]: row for row in csv.DictReader(handle)}
    with open(TABLES / "ixi_dlmuse_volumes.csv") as handle:
        rows = [row for row in csv.DictReader(handle) if row["ID"] in people]
    columns = [c for c in rows[0] if c not in ("ID", "702")]
    volumes = np.array([[float(r[c]) / float(r["702"]) for c in columns] for r in rows])
    # Composites repeat their parts; what is left is scaled by its spread to be comparable.
    volumes = (volumes - volumes.mean(axis=0)) / volumes.std(axis=0)
    sites = [row["ID"].split("-")[1] for row in rows]
    age = np.array([float(people[row["ID"]]["Age"]) for row in rows])
    male = np.array([people[row["ID"]]["Sex"] == "M" for row in rows], dtype=float)
    kept = np.column_stack([age, male])
    train = np.arange(len(rows)) % 2 == 0
    names = np.array(sites)
    model = fit_combat(volumes[train], list(names[train]), kept[train])
    after = apply_combat(model, volumes, sites, kept)
    auc = {
        (name, part): site_auc(data[members], list(names[members]), 0)
        for name, data in (("before", volumes), ("after", after))
        for part, members in (("all", np.full(len(rows), True)), ("held out", ~train))
    }
    r = {
        name: [np.corrcoef(age, column)[0, 1] for column in data.T]
        for name, data in (("before", volumes), ("after", after))
    }
    mean = {name: float(np.mean(np.abs(values))) for name, values in r.items()}
    print(f"{len(rows)} people, {len(columns)} volumes; site AUC {auc}; mean |r| with age {mean}")
    assert auc["after", "held out"] < auc["before", "held out"] - 0.1
    assert mean["after"] > 0.95 * mean["before"]
    assert np.corrcoef(r["before"], r["after"])[0, 1] > 0.95
