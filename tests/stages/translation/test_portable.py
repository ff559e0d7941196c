"""Classifiers from files: checked before they are run, fed on their own grid."""

import json

import numpy as np
import pytest

from stages.translation.portable import find_cards, is_about, load_judge
from stages.translation.volumes import Volume
from tests.stages.translation import steps

DOMAINS = ["Young", "Old"]


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    return steps.write_judge(tmp_path_factory.mktemp("judge") / "m", seen=["sub-00", "sub-01"])


def edit(card, folder, **changes):
    """Copy a model with some of its card changed."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(card.with_name("model.onnx").read_bytes())
    data = json.loads(card.read_text())
    data["Input"] |= changes.pop("Input", {})
    path = folder / "model.json"
    path.write_text(json.dumps(data | changes))
    return path


def test_a_model_tells_what_it_was_built_to_tell(card):
    judge = load_judge(card, "gm")
    rng = np.random.default_rng(0)
    for is_old in (False, True):
        volume = Volume(steps.make_brain(rng, is_old=is_old), steps.AFFINE)
        (shares,) = judge.ask(judge.prepare(volume)[None])
        assert shares.sum() == pytest.approx(1)
        assert judge.classes[int(shares.argmax())] == ("old" if is_old else "young")
    assert judge.seen == {"sub-00", "sub-01"}


def test_a_models_voxels_are_means_over_the_images(card):
    judge = load_judge(card, "gm")
    fine = np.random.default_rng(0).normal(size=(40, 48, 40)).astype(np.float32)
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = steps.AFFINE[:3, 3] - 2
    made = judge.prepare(Volume(fine, affine))
    blocks = fine.reshape(20, 2, 24, 2, 20, 2).mean((1, 3, 5))
    assert np.allclose(made[0], blocks, atol=1e-5)


def test_a_model_of_slices_gets_its_plane(tmp_path):
    path = steps.write_judge(tmp_path / "m", seen=[], plane="axial")
    judge = load_judge(path, "gm")
    data = np.random.default_rng(0).normal(size=steps.SHAPE).astype(np.float32)
    assert np.allclose(judge.prepare(Volume(data, steps.AFFINE))[0], data[:, :, 13], atol=1e-5)
    bad = edit(path, tmp_path / "n", Input={"Plane": "oblique"})
    with pytest.raises(ValueError, match="names no Plane"):
        load_judge(bad, "gm")


def test_damage_is_found_before_the_graph_is_read(card, tmp_path):
    path = edit(card, tmp_path / "m")
    graph = path.with_name("model.onnx")
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"model\.onnx: SHA-256 .* the card says"):
        load_judge(path, "gm")
    graph.unlink()
    with pytest.raises(FileNotFoundError, match="copy the whole folder"):
        load_judge(path, "gm")


def test_a_graph_that_is_none_is_named(card, tmp_path):
    from hashlib import sha256

    path = edit(card, tmp_path / "m", SHA256={"model.onnx": sha256(b"none").hexdigest()})
    path.with_name("model.onnx").write_bytes(b"none")
    with pytest.raises(ValueError, match="no readable ONNX graph"):
        load_judge(path, "gm")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Space": "desc-isotropic"}, "space desc-isotropic, translations are in MNI152"),
        ({"Arm": "mnibrain"}, "images of arm mnibrain, these are of mnigm"),
        ({"Affine": [[0, 8, 0, 0], [8, 0, 0, 0], [0, 0, 8, 0], [0, 0, 0, 1]]}, "not those of RAS"),
    ],
)
def test_models_of_other_images_are_refused(card, tmp_path, changes, message):
    path = edit(card, tmp_path / "m", Input=changes)
    with pytest.raises(ValueError, match=message):
        load_judge(path, "gm")


def test_only_models_that_fit_judge_unasked(card, tmp_path):
    assert is_about(card, "gm", DOMAINS)
    assert not is_about(card, "gm", ["F", "M"])
    assert is_about(edit(card, tmp_path / "a", Task="regression", Classes=[]), "gm", ["F", "M"])
    assert not is_about(edit(card, tmp_path / "b", Input={"Arm": "mnibrain"}), "gm", DOMAINS)


def test_cards_are_found(card, tmp_path):
    assert find_cards([str(card), "models/classes/other.json"], None) == [card]
    assert find_cards([], str(card.parents[1])) == [card]
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_cards([], str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"no model\.json in it"):
        find_cards([], str(tmp_path))


def test_a_card_that_is_none_is_named(tmp_path):
    path = tmp_path / "model.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"model\.json: no JSON"):
        load_judge(path, "gm")
    path.write_text("{}")
    with pytest.raises(ValueError, match="no model card, Name, Task"):
        load_judge(path, "gm")
