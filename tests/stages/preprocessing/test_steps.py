"""The three steps on a phantom: everything is written, the same each time, left stays left.

The brain mask is the phantom's true one here; finding it has its own tests.
"""

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import specs
from stages.preprocessing import (
    brain_mask,
    extract,
    figures,
    itk,
    provenance,
    register,
    segment,
    template,
)

STEPS = {"extract": extract, "register": register, "segment": segment}
PROFILES = ["fsl-anat", "mni-gm", "coronal"]


@pytest.fixture(scope="module")
def head(phantom, tmp_path_factory) -> Path:
    """The phantom stored posterior-superior-right, with a bright ball in its right half."""
    path = tmp_path_factory.mktemp("raw") / "sub-01_T1w.nii.gz"
    data = phantom.t1w.copy()
    index = np.indices(data.shape).reshape(3, -1)
    world = (phantom.affine @ np.vstack([index, np.ones(index.shape[1])]))[:3]
    near = np.linalg.norm(world - marker(phantom)[:, None], axis=0).reshape(data.shape) < 5
    data[near] = 1.5
    image = nib.Nifti1Image((data * 1000).astype(np.int16), phantom.affine)
    order = nib.orientations.axcodes2ornt("PSR")
    image = image.as_reoriented(nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], order))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    image.to_filename(path)
    return path


def marker(phantom) -> np.ndarray:
    """A point in the right hemisphere, 40 mm from the middle in the template's frame."""
    return np.linalg.solve(phantom.world_to_template, [40.0, -18.0, 30.0, 1.0])[:3]


@pytest.fixture(scope="module")
def run(phantom, head):
    """Run steps into a folder; returns the outputs by step and name."""

    def execute(folder: Path, **changes) -> dict[str, Path]:
        folder.mkdir(exist_ok=True, parents=True)
        outputs: dict[str, Path] = {"image": changes.get("image", head)}
        for name, module in STEPS.items():
            step = specs.load("preprocessing").steps[name]
            for key, output in step.outputs.items():
                end = ".tsv" if output.table else output.bids["extension"]
                outputs[key] = folder / f"{name}-{key}{end}"
            params = {key: param.default for key, param in step.params.items()}
            params |= {key: value for key, value in changes.items() if key in params}
            module.run(
                **{key: outputs[key] for key in (*step.inputs, *step.outputs)}, **params, seed=0
            )
            outputs |= {f"{name}-{key}": outputs[key] for key in step.outputs}
        return outputs

    def find(image, affine, **_):
        order = nib.orientations.io_orientation(affine)
        back = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], order)
        mask = nib.orientations.apply_orientation(phantom.brain, back)
        return brain_mask.BrainMask(mask=mask, probability=mask.astype(np.float32), flag="pass")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(brain_mask, "extract_brain", find)
        yield execute


@pytest.fixture(scope="module")
def outputs(run, tmp_path_factory) -> dict[str, Path]:
    """What the steps write with all profiles."""
    return run(tmp_path_factory.mktemp("first"))


def row(path: Path) -> dict[str, str]:
    names, values = path.read_text().splitlines()
    return dict(zip(names.split("\t"), values.split("\t"), strict=True))


def test_every_output_is_written(outputs):
    assert [name for name, path in outputs.items() if not path.exists()] == []


def test_second_run_gives_the_same_bytes(run, outputs, tmp_path):
    again = run(tmp_path)
    names = [name for name in outputs if "-" in name]
    first, second = (
        {name: hashlib.sha256(files[name].read_bytes()).hexdigest() for name in names}
        for files in (outputs, again)
    )
    assert first == second


def test_images_share_the_grid_of_their_frame(outputs):
    native, mni = nib.load(outputs["t1w"]), template.load()
    assert nib.aff2axcodes(native.affine) == ("R", "A", "S")
    for name in ("mask", "gm", "wm", "csf"):
        assert nib.load(outputs[name]).shape == native.shape
        np.testing.assert_allclose(nib.load(outputs[name]).affine, native.affine)
    for name in ("template_brain", "template_gm", "template_wm", "template_gm_t1w"):
        assert nib.load(outputs[name]).shape == mni.t1w.shape
        np.testing.assert_allclose(nib.load(outputs[name]).affine, mni.affine)


@pytest.mark.parametrize("name", ["t1w", "template_brain", "coronal_slice"])
def test_marker_stays_on_the_right_at_its_place(outputs, phantom, name):
    """Native frame: exactly; upright and template frames: as planted, up to the phantom's warp."""
    image = nib.load(outputs[name])
    values = image.get_fdata()
    if name == "t1w":
        values = values * (nib.load(outputs["mask"]).get_fdata() > 0)  # fat is as bright
    weight = np.where(values > 0.8 * values.max(), values, 0)
    index = [(np.indices(values.shape)[axis] * weight).sum() / weight.sum() for axis in range(3)]
    place = (image.affine @ [*index, 1])[:3]
    if name == "t1w":
        np.testing.assert_allclose(place, marker(phantom), atol=1)
    elif name == "template_brain":
        np.testing.assert_allclose(place, (40, -18, 30), atol=3)
    else:
        assert place[0] > 25
        assert place[2] > 15


def test_picture_is_the_slice_in_eight_bits(outputs):
    picture = Image.open(outputs["coronal_picture"])
    assert picture.mode == "L"
    assert picture.size == (160, 160)
    plane = nib.load(outputs["coronal_slice"]).get_fdata()[:, 0]
    shown = np.asarray(picture)[::-1].T
    assert np.corrcoef(shown.ravel(), plane.ravel())[0, 1] > 0.99


def test_transforms_are_each_others_inverse(outputs):
    forward, backward, posture = (
        itk.read_transform(outputs[name]) for name in ("to_template", "from_template", "to_upright")
    )
    np.testing.assert_allclose(forward @ backward, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(posture[:3, :3] @ posture[:3, :3].T, np.eye(3), atol=1e-6)


def test_geometry_is_recorded_before_and_after(outputs, phantom):
    found = row(outputs["extract-scans"])
    i, j, k = phantom.t1w.shape
    assert found["raw_shape"] == f"{j}x{k}x{i}"
    assert found["raw_orientation"] == "PSR"
    assert found["orientation"] == "RAS"
    assert int(found["n_slices"]) == nib.load(outputs["t1w"]).shape[2]
    assert found["filename"] == "anat/extract-t1w.nii.gz"


def test_rows_of_the_three_steps_have_one_key_and_no_other_column_in_common(outputs):
    rows = [row(outputs[f"{name}-scans"]) for name in STEPS]
    assert len({found["filename"] for found in rows}) == 1
    names = [name for found in rows for name in found if name != "filename"]
    assert len(names) == len(set(names))


def test_a_good_phantom_passes(outputs):
    assert row(outputs["segment-scans"])["qc"] == "pass", row(outputs["segment-scans"])


def test_sidecars_say_what_was_found(outputs):
    fields = json.loads(
        (outputs["coronal_slice"].parent / "register-coronal_slice.json").read_text()
    )
    assert fields["SliceCoordinate"] == {"Value": -18.0, "Units": "mm"}
    assert fields["SliceIndex"] == 116
    fields = json.loads((outputs["to_template"].parent / "register-to_template.json").read_text())
    assert "ICBM152 2009a" in fields["Template"]


def test_grey_matter_image_is_empty_where_grey_matter_is_rare(outputs):
    grey = nib.load(outputs["template_gm"]).get_fdata()
    shown = nib.load(outputs["template_gm_t1w"]).get_fdata()
    assert not shown[grey < 0.49].any()
    assert (shown[grey > 0.51] > 0).mean() > 0.99


@pytest.mark.parametrize("step", ["extract", "register"])
def test_the_picture_to_compare_with_shows_the_same_slices(outputs, step):
    drawn, plain = (
        np.asarray(Image.open(outputs[f"{step}-{name}"]).convert("RGB"), float)
        for name in ("figure", "before")
    )
    assert drawn.shape == plain.shape
    differs = np.abs(drawn - plain).max(axis=2) > 8
    assert differs.any()
    if step == "extract":  # but for outline and caption it is the same picture
        assert differs[: int(0.9 * len(differs))].mean() < 0.1


@pytest.mark.parametrize("name", ["extract-figure", "register-figure", "segment-figure"])
def test_figures_are_small(outputs, name):
    assert outputs[name].stat().st_size < 400_000


def test_profile_leaves_out_what_was_not_asked_for(run, tmp_path):
    found = run(tmp_path, profile=["fsl-anat"], crop=False, dof=9)
    optional = [
        name
        for step in specs.load("preprocessing").steps.values()
        for name, output in step.outputs.items()
        if output.optional
    ]
    assert {name for name in optional if found[name].exists()} == set()
    assert found["gm"].exists()


def find_nothing(image: np.ndarray, affine: np.ndarray) -> brain_mask.BrainMask:
    """Fail as the brain extraction does."""
    return brain_mask.BrainMask(
        mask=np.zeros(image.shape, dtype=bool),
        probability=np.zeros(image.shape, dtype=np.float32),
        flag="fail",
        reasons=("volume 3 ml",),
    )


def test_a_head_without_a_brain_is_refused(head, run, tmp_path, monkeypatch):
    monkeypatch.setattr(brain_mask, "extract_brain", find_nothing)
    with pytest.raises(ValueError, match=f"^{head}: no brain was found \\(volume 3 ml\\); check"):
        run(tmp_path)


def test_a_header_without_orientation_is_warned_about(tmp_path, caplog, monkeypatch):
    """NIfTI then leaves left and right open; the file is used, and the log says how."""
    lost = tmp_path / "lost_T1w.nii.gz"
    noise = np.random.default_rng(0).uniform(size=(40, 40, 40)).astype(np.float32)
    image = nib.Nifti1Image(noise, None)
    image.set_sform(np.eye(4), 0)
    image.set_qform(np.eye(4), 0)
    image.to_filename(lost)
    names = ("t1w", "mask", "brain", "scans", "figure", "before")
    outputs = dict.fromkeys(names, tmp_path / "out")
    monkeypatch.setattr(brain_mask, "extract_brain", find_nothing)
    with pytest.raises(ValueError, match="no brain was found"):
        extract.run(**outputs, image=lost, engine="builtin", crop=False, seed=0)
    assert "states no orientation" in caplog.text


def test_a_phantom_is_called_synthetic_in_every_sidecar_and_figure(run, head, outputs, tmp_path):
    made_up = tmp_path / head.name
    made_up.write_bytes(head.read_bytes())
    made_up.with_name("sub-01_T1w.json").write_text('{"Synthetic": true}')
    found = run(tmp_path / "out", image=made_up)
    for sidecar in sorted((tmp_path / "out").glob("*.json")):
        plain = json.loads((outputs["t1w"].parent / sidecar.name).read_text())
        told = json.loads(sidecar.read_text())
        assert "Synthetic" not in plain
        assert told.pop("Synthetic") is True, sidecar.name
        assert told == plain
    for name in ("extract-figure", "extract-before", "register-figure", "segment-figure"):
        told, plain = (np.asarray(Image.open(d[name]).convert("RGB")) for d in (found, outputs))
        assert (told[-figures.CAPTION :] != plain[-figures.CAPTION :]).any(), name
        assert np.abs(told[: -figures.CAPTION].astype(int) - plain[: -figures.CAPTION]).max() < 40


@pytest.mark.parametrize(
    ("sidecar", "description", "is_synthetic"),
    [
        ("", {"GeneratedBy": [{"Name": "brainstages demo"}]}, True),
        ("", {"GeneratedBy": [{"Name": "dcm2bids"}]}, False),
        ('{"Synthetic": true}', {"GeneratedBy": [{"Name": "dcm2bids"}]}, True),
        ("not JSON", {"GeneratedBy": "nobody"}, False),
        ("[]", {}, False),
    ],
)
def test_heads_are_synthetic_by_their_sidecar_or_their_dataset(
    tmp_path, sidecar, description, is_synthetic
):
    (tmp_path / "dataset_description.json").write_text(json.dumps(description))
    folder = tmp_path / "sub-01" / "anat"
    folder.mkdir(parents=True)
    if sidecar:
        (folder / "sub-01_T1w.json").write_text(sidecar)
    assert provenance.is_synthetic(folder / "sub-01_T1w.nii.gz") is is_synthetic
