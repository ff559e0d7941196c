"""Model folders: the graph says what the program says; what is damaged or foreign is refused."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from stages.classifier import portable
from stages.classifier.pretrained import read_pretrained
from stages.classifier.program import build_member, build_program

CARD = {"Name": "x", "Task": "classification", "Target": "sex", "Input": {}, "Grid": {}}
CARD |= {"TrainingParticipants": ["bids::sub-01"], "TrainingImages": ["abc"]}


def architecture(**given):
    usual = {"network": "bn", "shape": [16, 16, 16], "classes": 2, "bins": 1, "options": {}}
    return {**usual, "members": 1, "scaling": "standardise", **given}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    portable.write_model(path, build_program(architecture()), CARD)
    return path


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


def test_the_graph_is_as_promised(folder):
    graph = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(graph)
    (image,), (output,) = graph.graph.input, graph.graph.output
    assert (image.name, output.name) == ("image", "output")
    sizes = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert isinstance(sizes[0], str) and sizes[1:] == [1, 16, 16, 16]
    assert max(o.version for o in graph.opset_import if o.domain in ("", "ai.onnx")) >= 17


def test_a_folder_that_is_given_away_tells_nothing_of_this_machine(folder):
    source = str(Path(portable.__file__).parents[2]).encode()
    assert not [path.name for path in folder.iterdir() if source in path.read_bytes()]


@pytest.mark.parametrize("batch", [1, 3])
def test_graph_and_weights_agree_on_raw_images(folder, batch):
    image = np.random.default_rng(0).gamma(2, 300, (batch, 1, 16, 16, 16)).astype(np.float32)
    image[:, :, :3] = 0
    program, card = portable.read_program(folder)
    with torch.no_grad():
        expected = program(torch.from_numpy(image)).numpy()
    assert np.allclose(portable.Judge(folder / "model.json")(image), expected, atol=1e-4)
    assert card["Parameters"] == sum(p.numel() for p in program.parameters())


@pytest.mark.parametrize(
    "given",
    [
        {"network": "sfcn", "classes": 0, "bins": 40},
        {"network": "cnn2d", "shape": [16, 18]},
        {"network": "linear", "members": 2, "scaling": "none"},
    ],
)
def test_other_kinds_of_programs_are_exported_too(tmp_path, given):
    portable.write_model(tmp_path, build_program(architecture(**given)), CARD)
    shape = given.get("shape", [16, 16, 16])
    outputs = portable.Judge(tmp_path)(np.random.rand(2, 1, *shape).astype(np.float32))
    assert outputs.shape == (2, 1 if "bins" in given else 2)


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_a_damaged_file_is_refused_by_its_checksum(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    read = portable.Judge if name == "model.onnx" else portable.read_program
    with pytest.raises(ValueError, match=f"{name}: SHA-256 .* the card says"):
        read(copy)


def test_an_absent_file_is_named(copy):
    (copy / "model.onnx").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.onnx: no such file; copy the whole folder"):
        portable.Judge(copy)
    with pytest.raises(FileNotFoundError, match="give a model's folder"):
        portable.read_card(copy / "nothing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(Version="99"), "format version 99, this release reads 1"),
        (lambda c: c.pop("Grid"), "no model card, Grid missing"),
    ],
)
def test_a_card_of_another_kind_is_refused(copy, change, message):
    card = json.loads((copy / "model.json").read_text())
    change(card)
    (copy / "model.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=message):
        portable.Judge(copy)


def test_a_card_that_is_no_json_is_refused(copy):
    (copy / "model.json").write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        portable.read_card(copy)


class Bomb:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('exploded').touch()",))


def _own_checksum(copy, name):
    card = json.loads((copy / "model.json").read_text())
    card["SHA256"][name] = portable._sha256(copy / name)
    (copy / "model.json").write_text(json.dumps(card))


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_a_malicious_file_with_a_fitting_card_runs_nothing(copy, name, monkeypatch):
    monkeypatch.chdir(copy)
    (copy / name).write_bytes(pickle.dumps(Bomb()))
    _own_checksum(copy, name)
    read = portable.Judge if name == "model.onnx" else portable.read_program
    with pytest.raises(ValueError, match=r"no readable ONNX graph|weights do not fit"):
        read(copy)
    assert not (copy / "exploded").exists()


def test_pickled_pretrained_weights_are_not_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": Bomb()}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"no safetensors file.*are not opened"):
        read_pretrained(tmp_path / "weights.pt")
    assert not (tmp_path / "exploded").exists()


def test_pretrained_weights_are_taken_and_their_people_refused(folder):
    given = read_pretrained(folder / "model.safetensors")
    member = build_member("bn", (16, 16, 16), classes=2)
    given.put_into(member)
    stored, _ = portable.read_program(folder)
    assert all(
        torch.equal(a, b)
        for a, b in zip(member.parameters(), stored.members[0].parameters(), strict=True)
    )
    given.refuse_seen([{"participant_id": "sub-02", "image_hash": "x", "filename": "f"}])
    for row in (
        {"participant_id": "sub-01", "image_hash": "x"},
        {"participant_id": "sub-9", "image_hash": "abc"},
    ):
        with pytest.raises(ValueError, match=r"leak: .* was seen in pretraining"):
            given.refuse_seen([{**row, "filename": "f"}])
    with pytest.raises(ValueError, match=r"none of its .* weights fits"):
        given.put_into(build_member("linear", (16, 16, 16), classes=2))
