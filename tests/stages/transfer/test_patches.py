"""Patches show what is there; networks have the study's size; trainings stop and go on."""

import json
import pickle
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stages.transfer import models, natural_images, splits, training
from stages.transfer.cutting import cut_slices, cut_turned, draw_turns
from stages.transfer.network import MiniVGG, apply, build, count_parameters
from stages.transfer.tasks import parse_source


def test_a_patch_is_three_slices_through_its_point():
    data = np.random.default_rng(0).integers(0, 255, (20, 22, 24)).astype(np.uint8)
    (patch,) = cut_slices(data, np.array([[10, 11, 12]]), 8)
    assert (patch[0] == data[6:14, 7:15, 12]).all()
    assert (patch[1] == data[6:14, 11, 8:16]).all()
    assert (patch[2] == data[10, 7:15, 8:16]).all()


def test_unturned_patches_are_slices_also_beyond_the_edge():
    data = np.random.default_rng(0).integers(1, 255, (20, 22, 24)).astype(np.uint8)
    centres = np.array([[10, 11, 12], [0, 0, 0], [19, 21, 23], [3, 20, 12]])
    turned = cut_turned(data, centres.astype(float), np.tile(np.eye(3), (4, 1, 1)), 8)
    assert (turned == cut_slices(data, centres, 8)).all()
    assert (cut_slices(data, np.array([[60, 0, 0]]), 8) == 0).all()


def test_a_patch_turned_by_ninety_degrees_is_its_slice_turned():
    data = np.random.default_rng(0).integers(0, 255, (20, 22, 24)).astype(np.uint8)
    turn = np.array([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    (patch,) = cut_turned(data, np.array([[10.0, 11, 12]]), turn, 8)
    upright = np.array([[data[10 - y, 11 + x, 12] for y in range(-4, 4)] for x in range(-4, 4)])
    assert (patch[0] == upright).all()


def test_turns_are_rotations_within_their_limits():
    turns = draw_turns(np.random.default_rng(0), 200, degrees=15, stretch=0.0)
    assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert np.allclose(np.linalg.det(turns), 1)
    angles = np.degrees(np.arccos((np.trace(turns, axis1=1, axis2=2) - 1) / 2))
    assert 10 < angles.max() <= 15
    stretched = np.cbrt(
        np.linalg.det(draw_turns(np.random.default_rng(0), 200, degrees=15, stretch=0.1))
    )
    assert 0.9 <= stretched.min() < 0.92
    assert 1.08 < stretched.max() <= 1.1


@pytest.mark.parametrize(("classes", "parameters"), [(10, 2_169_770), (61, 2_195_933)])
def test_the_network_has_the_size_of_mini_vgg(classes, parameters):
    assert count_parameters(MiniVGG(classes)) == parameters


def test_features_are_512_and_depend_on_the_seed_alone():
    patches = np.random.default_rng(0).integers(0, 255, (5, 3, 16, 16)).astype(np.uint8)
    first, again, other = (build(4, size=16, width=4, depth=2, seed=s) for s in (1, 1, 2))
    assert apply(first, patches, "fc").shape == (5, 512)
    assert apply(first, patches, "pool2").shape == (5, 8 * 4 * 4)
    assert (apply(first, patches) == apply(again, patches)).all()
    assert not np.allclose(apply(first, patches), apply(other, patches))
    assert np.allclose(apply(first, patches, "probabilities").sum(1), 1, atol=1e-6)
    with pytest.raises(ValueError, match="30 pixels cannot be halved 2 times"):
        MiniVGG(4, size=30)


def draw(rng):
    classes = rng.integers(0, 3, 48)
    patches = rng.integers(0, 60, (48, 3, 8, 8))
    patches[np.arange(48), classes] += 120  # the class is the bright plane
    return patches.astype(np.uint8), classes


def run_training(epochs, state=None, checkpoint=None, stop=0.0, signature="toy"):
    net = build(3, size=8, width=4, depth=1, seed=0)
    progress = training.train(
        net, draw, epochs=epochs, batch_size=16, learning_rate=0.01, seed=5,
        signature=signature, state=state, checkpoint=checkpoint, minutes=stop,
    )  # fmt: skip
    return net, progress


def test_a_training_that_stops_and_goes_on_gives_the_same_network(tmp_path):
    whole, once = run_training(4)
    net, progress = None, None
    for part in range(4):  # the least time limit stops after every epoch
        before = tmp_path / f"state{part - 1}.safetensors" if part else None
        net, progress = run_training(4, tmp_path / f"state{part}.safetensors", before, stop=1e-9)
        assert progress.epoch == part + 1
    assert progress.losses == once.losses
    for name, value in whole.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name


def test_training_learns_and_refuses_a_foreign_state(tmp_path):
    net, progress = run_training(20, tmp_path / "state.safetensors")
    patches, classes = draw(np.random.default_rng(99))
    assert (apply(net, patches).argmax(1) == classes).mean() > 0.9
    assert progress.losses[-1] < progress.losses[0]
    with pytest.raises(ValueError, match="a training of toy; this is other"):
        run_training(21, None, tmp_path / "state.safetensors", signature="other")


def test_a_model_is_read_again_and_a_changed_one_is_refused(tmp_path):
    net = build(4, size=16, width=4, depth=1, seed=0)
    path, card = tmp_path / "model.safetensors", tmp_path / "model.json"
    models.save_model(path, card, net, {"Name": "toy", "Input": {"Size": 16}})
    again, about = models.load_model(path, card)
    patches = np.random.default_rng(0).integers(0, 255, (5, 3, 16, 16)).astype(np.uint8)
    assert (apply(net, patches) == apply(again, patches)).all()
    assert about["Name"] == "toy"
    weights = net.state_dict() | {"head.bias": torch.ones(4)}
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"SHA-256 is not the one in model.json"):
        models.load_model(path, card)


def test_any_weights_file_is_read_without_running_code(tmp_path):
    net = build(10, size=32, width=8, depth=2, seed=3)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    again = models.load_weights(tmp_path / "w.pt", 32)
    assert torch.equal(again.head.weight, net.head.weight)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(ValueError, match=r"code or objects|cannot be read"):
        models.load_weights(tmp_path / "evil.pt", 32)
    save_file({"other.weight": torch.ones(2)}, tmp_path / "o.safetensors")
    with pytest.raises(ValueError, match="not the weights of a mini-VGG"):
        models.load_weights(tmp_path / "o.safetensors", 32)
    (tmp_path / "damaged.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        models.load_weights(tmp_path / "damaged.safetensors", 32)
    with pytest.raises(FileNotFoundError, match="--weights network=PATH"):
        models.load_weights(tmp_path / "none.pt", 32)


class _Evil:
    def __reduce__(self):
        return (print, ("run",))


def write_cifar(folder, images=4):
    """Write files of CIFAR-10's binary format: class, then red, green and blue planes by rows."""
    folder.mkdir()
    for name in (*natural_images.TRAIN_FILES, natural_images.TEST_FILE):
        records = b""
        for index in range(images):
            planes = [bytes([index * 20 + plane] * 1024) for plane in range(3)]
            records += struct.pack("B", index % 10) + b"".join(planes)
        (folder / name).write_bytes(records)
    return folder


def test_cifar10_is_read_from_a_folder_and_from_its_archive(tmp_path):
    folder = write_cifar(tmp_path / "cifar-10-batches-bin")
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    for path in (folder, tmp_path / "cifar-10-binary.tar.gz"):
        task = natural_images.read_cifar10(path)
        images, classes = task.train
        assert images.shape == (20, 3, 32, 32)
        assert classes[:4].tolist() == [0, 1, 2, 3]
        assert images[2, :, 0, 0].tolist() == [40, 41, 42]
        drawn, _ = task.draw(np.random.default_rng(0))
        assert drawn.shape == images.shape
    assert len(natural_images.read_cifar10(folder, 7).draw(np.random.default_rng(0))[0]) == 7


def test_files_that_are_not_cifar10s_binary_version_are_refused(tmp_path):
    folder = write_cifar(tmp_path / "c")
    (folder / "data_batch_2.bin").write_bytes(b"\0" * 3074)
    with pytest.raises(ValueError, match=r"data_batch_2.bin: 3074 bytes are no whole number"):
        natural_images.read_cifar10(folder)
    (folder / "data_batch_2.bin").write_bytes(b"\x0b" + b"\0" * 3072)
    with pytest.raises(ValueError, match="class 11, expected 0–9"):
        natural_images.read_cifar10(folder)
    (folder / "test_batch.bin").unlink()
    with pytest.raises(FileNotFoundError, match="not the Python one"):
        natural_images.read_cifar10(folder)
    (tmp_path / "x.tar.gz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no archive"):
        natural_images.read_cifar10(tmp_path / "x.tar.gz")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        natural_images.read_cifar10(tmp_path / "nowhere")


def test_an_archive_that_unpacks_to_too_much_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(natural_images, "MOST_BYTES", 1_000 * natural_images.RECORD)
    archive_path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(archive_path, "w:gz", compresslevel=1) as archive:
        for name in (natural_images.TRAIN_FILES[0], natural_images.TEST_FILE, "other.bin"):
            member = tarfile.TarInfo(f"c/{name}")
            member.size = 10 * natural_images.MOST_BYTES
            archive.addfile(member, _Zeros())
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"data_batch_1.bin: more than 3073000 bytes"):
        natural_images.read_cifar10(archive_path)
    assert tracemalloc.get_traced_memory()[1] < 6 * natural_images.MOST_BYTES
    tracemalloc.stop()


class _Zeros:
    def read(self, size):
        return bytes(size)


def test_the_proxy_has_ten_classes_and_keeps_its_test_stripes_apart(monkeypatch):
    monkeypatch.setattr(natural_images, "PROXY_PATCHES", 200)
    monkeypatch.setattr(natural_images, "PROXY_TEST", 100)
    task = natural_images.ProxyTask()
    patches, classes = task.draw(np.random.default_rng(0))
    assert patches.shape == (200, 3, 32, 32)
    assert set(classes) == set(range(10))
    splits.check_no_duplicates(patches, task.test[0], (range(200), range(100)))


def test_sources_are_read_by_name():
    assert parse_source("landmark20").landmarks == 20
    for wrong in ("landmark", "landmark1", "cifar", "imagenet"):
        with pytest.raises(ValueError, match=r"expected landmark and a number"):
            parse_source(wrong)


def test_150_cases_are_split_100_to_50_evenly_and_by_participant():
    cases = {f"sub-{i:03d}": i % 3 != 0 for i in range(150)}
    test = splits.split_all([], cases, 1 / 3, seed=4)
    assert len(test) == 50
    assert abs(sum(cases[name] for name in test) - 100 / 3) < 1
    assert test == splits.split_all([], cases, 1 / 3, seed=4)
    assert test != splits.split_all([], cases, 1 / 3, seed=5)
    with_heads = splits.split_all([f"head{i}" for i in range(9)], cases, 1 / 3, seed=4)
    assert test < with_heads  # heads are split among themselves
    assert len(with_heads) == 53
    folds = splits.deal_folds(cases, 5, seed=0)
    assert {sum(k == fold for k in folds.values()) for fold in range(5)} == {30}
    with pytest.raises(ValueError, match="3 cases cannot be dealt into 5 folds"):
        splits.deal_folds(dict.fromkeys("abc", True), 5, 0)


def test_leaks_are_refused():
    with pytest.raises(
        ValueError, match=r"1 participants are both in training and in testing \(b\)"
    ):
        splits.check_apart(["a", "b"], ["b", "c"])
    rng = np.random.default_rng(0)
    train = rng.integers(0, 255, (10, 3, 8, 8)).astype(np.uint8)
    test = rng.integers(0, 255, (6, 3, 8, 8)).astype(np.uint8)
    names = ([f"t{i}" for i in range(10)], [f"v{i}" for i in range(6)])
    splits.check_no_duplicates(train, test, names)
    test[4] = train[7]
    with pytest.raises(ValueError, match=r"1 patches are both .*\(t7 and v4\)"):
        splits.check_no_duplicates(train, test, names)
    test[4] = train[7] = 0  # empty patches are alike everywhere
    splits.check_no_duplicates(train, test, names)
    assert json.dumps(names)
