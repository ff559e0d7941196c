"""Networks have torchvision's names, shapes and numbers of weights; files are loaded strictly."""

import numpy as np
import pytest
import torch
from monai.networks.nets import resnet50 as monai_resnet50
from safetensors.torch import save_file

from stages.encoding.autoencoder import Autoencoder, train_autoencoder
from stages.encoding.extraction import extract, luminance, motion, resolve_layer
from stages.encoding.images import fingerprint, resize, to_tensor
from stages.encoding.provenance import RANDOM
from stages.encoding.resnet50 import ResNet50
from stages.encoding.vgg16 import VGG16
from stages.encoding.weights import build_network


@pytest.fixture(scope="module")
def resnet():
    return build_network("resnet50", None, seed=0)[0]


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 255, (2, 224, 224, 3), dtype=np.uint8)


@pytest.mark.parametrize(("kind", "count"), [(VGG16, 138_357_544), (ResNet50, 25_557_032)])
def test_parameter_counts(kind, count):
    with torch.device("meta"):
        network = kind()
    assert sum(p.numel() for p in network.parameters()) == count


def test_vgg16_has_torchvisions_names():
    with torch.device("meta"):
        state = VGG16().state_dict()
    convolutions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    layers = [*(f"features.{i}" for i in convolutions), *(f"classifier.{i}" for i in (0, 3, 6))]
    assert list(state) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert state["classifier.0.weight"].shape == (4096, 25088)


def test_resnet50_equals_monais(resnet, frames):
    other = monai_resnet50(
        spatial_dims=2,
        n_input_channels=3,
        conv1_t_stride=2,
        bias_downsample=False,
        num_classes=1000,
    )
    other.load_state_dict(resnet.state_dict(), strict=True)
    other.eval()
    images = to_tensor(frames)
    with torch.inference_mode():
        torch.testing.assert_close(resnet(images), other(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_are_loaded_and_named(resnet, tmp_path, suffix):
    state = {k: v + 1 if k == "fc.bias" else v for k, v in resnet.state_dict().items()}
    path = tmp_path / f"resnet50-0676ba61{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    network, origin = build_network("resnet50", path, seed=1)
    torch.testing.assert_close(network.fc.bias, resnet.fc.bias + 1)
    assert origin.startswith(f"{path.name} sha256:")


def test_old_files_without_counters_are_taken(resnet, tmp_path):
    state = {k: v for k, v in resnet.state_dict().items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "old.pth")
    assert build_network("resnet50", tmp_path / "old.pth", seed=0)[1] != RANDOM


def test_weights_of_another_network_are_refused(resnet, tmp_path):
    small = {k: v for k, v in resnet.state_dict().items() if not k.startswith("layer4")}
    small["fc.weight"] = torch.zeros(10, 2048)
    torch.save(small, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"missing: layer4.*1 of another shape: fc.weight"):
        build_network("resnet50", tmp_path / "other.pth", seed=0)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg.pth")
    with pytest.raises(ValueError, match=r"1 unknown: features\.0\.weight"):
        build_network("resnet50", tmp_path / "vgg.pth", seed=0)
    (tmp_path / "no.pth").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="not a file of weights"):
        build_network("resnet50", tmp_path / "no.pth", seed=0)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("code ran",))

    torch.save({"weights": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="not a file of weights"):
        build_network("resnet50", tmp_path / "evil.pth", seed=0)


def test_random_weights_follow_the_seed_and_are_named():
    first, origin = build_network("resnet50", None, seed=3)
    assert origin == RANDOM
    second, third = (build_network("resnet50", None, seed=s)[0] for s in (3, 4))
    torch.testing.assert_close(first.fc.weight, second.fc.weight)
    assert not torch.equal(first.fc.weight, third.fc.weight)


def test_features_of_default_and_named_layers(resnet, frames):
    pooled = extract(resnet, resolve_layer(resnet, "resnet50"), frames, map_grid=1)
    assert pooled.shape == (2, 2048)
    with torch.inference_mode():
        np.testing.assert_allclose(pooled, resnet.encode(to_tensor(frames)).numpy(), rtol=1e-5)
    layer = resolve_layer(resnet, "resnet50+layer2+3")
    assert layer == "layer2.3"
    assert extract(resnet, layer, frames, map_grid=1).shape == (2, 512)
    assert extract(resnet, layer, frames, map_grid=2).shape == (2, 512 * 4)


def test_vgg16_fc7_is_rectified_and_4096_wide(frames):
    network, _ = build_network("vgg16", None, seed=0)
    after = extract(network, resolve_layer(network, "vgg16"), frames[:1], map_grid=1)
    before = extract(network, resolve_layer(network, "vgg16+fc7raw"), frames[:1], map_grid=1)
    assert after.shape == (1, 4096)
    np.testing.assert_allclose(after, np.maximum(before, 0), rtol=1e-6)
    dark = extract(network, "classifier.4", frames[1:] // 4, map_grid=1)
    assert np.abs(dark - after).mean() > 0.1 * after.mean(), "random weights must tell images apart"


def test_unknown_layers_are_refused_with_a_list(resnet):
    with pytest.raises(ValueError, match=r"no layer 'layer5' \(near: .*layer4.*avgpool"):
        resolve_layer(resnet, "resnet50+layer5")


@pytest.mark.slow
def test_the_autoencoder_learns_and_the_seed_repeats_it():
    rng = np.random.default_rng(0)
    levels = rng.integers(40, 215, (3, 1, 1, 3), dtype=np.uint8)
    frames = np.broadcast_to(levels, (3, 224, 224, 3))
    losses = []
    for epochs in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Autoencoder(build_network("resnet50", None, seed=0)[0])
        options = {"batch_size": 3, "learning_rate": 1e-3, "seed": 0}
        losses.append(train_autoencoder(model, frames, epochs=epochs, **options))
    assert losses[1][1] < losses[1][0]
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-4)
    with torch.inference_mode():
        assert model(to_tensor(frames[:1])).shape == (1, 3, 224, 224)


def test_luminance_and_motion():
    black, white = np.zeros((224, 224, 3), np.uint8), np.full((224, 224, 3), 255, np.uint8)
    half = white.copy()
    half[112:] = 0
    bright = luminance(iter([black, white, half]))
    assert bright.shape == (3, 170)
    np.testing.assert_allclose(bright[:, 0], [0, 1, 0.5], atol=1e-6)
    np.testing.assert_allclose(motion(iter([black, white, white, half]))[:, 0], [0, 1, 0, 0.5])


def test_frames_are_stretched_or_cropped():
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 200
    stretched, cropped = (resize(wide, fit=fit) for fit in ("stretch", "crop"))
    assert stretched.shape == cropped.shape == (224, 224, 3)
    assert stretched[:, :60].mean() < 1
    assert cropped[:, 20:200].mean() > 190


def test_fingerprints_find_equal_frames_and_pass_over_uniform_ones(frames):
    smooth = resize(
        np.random.default_rng(1).integers(0, 255, (7, 7, 3), dtype=np.uint8), fit="stretch"
    )
    assert fingerprint(smooth) == fingerprint(smooth.copy())
    assert fingerprint(smooth) != fingerprint(smooth[::-1])
    assert fingerprint(np.full((224, 224, 3), 90, np.uint8)) == 0
