"""The latent model of volumes: codec, denoiser, and that stopping changes neither."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from stages.generation.codec import CodecSettings, build_codec, train_codec
from stages.generation.compress import measure_loss
from stages.generation.findings import find_remedies
from stages.generation.generator import add_noise, aim
from stages.generation.latent import build_latent
from stages.generation.sampling import sample
from stages.generation.slices import load_stack
from stages.generation.tables import read_rows
from stages.generation.train import encode_material, train
from stages.generation.volumes import Brains, load_brains, save_brains, to_images, to_voxels
from stages.generation.whole import audit_wholes, flatten_volumes, measure_size
from tests.stages.generation import steps
from tests.stages.generation.settings import settings

WHOLE = {"generator": "latent-volume", "voxel_mm": 10.0, "least_images": 2}
CODEC = {"codec_width": 16, "codec_steps": 20, "codec_batch": 2}
SETTINGS = CodecSettings(
    latent_channels=8,
    codec_width=16,
    codec_steps=4,
    codec_batch=4,
    codec_rate=2e-3,
    kl_weight=1e-5,
    precision="float32",
)


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """What each figure says, by the name of its file."""
    return {}


@pytest.fixture(scope="module")
def done(few_heads, tmp_path_factory, written):
    """All steps but export, once; what is written into figures is kept."""
    save = Figure.savefig

    def keep(figure, path, **options):
        save(figure, path, **options)
        text = "\n".join(t.get_text() for t in figure.findobj(Text))
        written[Path(path).name] = " ".join(text.split())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", keep)
        return steps.run_all(tmp_path_factory.mktemp("whole"), few_heads, **WHOLE, **CODEC)


@pytest.fixture(scope="module")
def volumes(done) -> torch.Tensor:
    """Training volumes as images."""
    brains = load_brains(str(done["prepare"]["volumes"]))
    rows = [r for r in read_rows(done["prepare"]["cohort"]) if r["split"] == "train"]
    return to_images(brains.voxels[[int(r["place"]) for r in rows]])


@pytest.fixture(scope="module")
def trained(volumes):
    """A codec that has learnt, and its losses."""
    codec = build_codec(volumes.mean((0, 1)), width=32, latent_channels=8, seed=0)
    return codec, train_codec(
        codec, volumes, replace(SETTINGS, codec_width=32, codec_steps=400), seed=0
    )


def test_the_codec_gives_back_more_of_a_person_than_the_mean_of_all(volumes, trained):
    codec, losses = trained
    latents, spread = codec.encode(volumes)
    assert latents.shape == spread.shape == (len(volumes), 8, 4, 6, 4)
    assert codec.decode(latents).shape == volumes.shape
    real = to_voxels(volumes)
    found = measure_loss(real, to_voxels(codec.reconstruct(volumes)), real.mean(0))
    assert found["rms"] < 0.8 * found["baseline"]
    assert found["brain_rms"] < 0.8 * found["brain_baseline"]
    assert np.mean([a for a, _ in losses[-20:]]) < 0.7 * np.mean([a for a, _ in losses[:20]])


def test_what_a_codec_loses_is_measured_as_by_hand():
    real = np.zeros((2, 2, 2, 2), np.uint8)
    real[:, 0] = 100
    made, mean = real + np.uint8(51), np.zeros((2, 2, 2))
    found = measure_loss(real, made, mean)
    assert found["rms"] == pytest.approx(0.2)
    assert found["psnr_db"] == pytest.approx(20 * np.log10(5))
    assert found["brain_rms"] == pytest.approx(0.2)
    assert found["brain_baseline"] == pytest.approx(100 / 255)
    assert found["baseline"] == pytest.approx(100 / 255 / np.sqrt(2))


def test_drawn_latents_have_mean_0_and_variance_1(volumes, trained):
    generator = build_latent(trained[0], voxel_mm=10.0, width=8, seed=0)
    many = encode_material(generator, volumes, torch.zeros(len(volumes), dtype=torch.int64))
    assert (many.spread > 0).all()
    picks = torch.arange(len(volumes)).repeat(50)
    drawn = many.draw(picks, torch.Generator().manual_seed(0), torch.arange(len(picks)))
    drawn = drawn.transpose(0, 1).flatten(1)
    assert drawn.mean(1).abs().max().item() < 0.02
    assert (drawn.var(1) - 1).abs().max().item() < 0.02


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_noise_is_mixed_into_volumes_as_diffusers_does(kind):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=kind)
    alphas, times = scheduler.alphas_cumprod, torch.tensor([0, 300, 990])
    z, e = torch.randn(2, 3, 4, 2, 3, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(add_noise(alphas, z, e, times), scheduler.add_noise(z, e, times))
    wanted = e if kind == "epsilon" else scheduler.get_velocity(z, e, times)
    assert torch.allclose(aim(kind, alphas, z, e, times), wanted)


def test_the_denoiser_learns_and_its_prompts_and_seeds_matter(volumes, trained):
    generator = build_latent(trained[0], voxel_mm=10.0, width=32, seed=0)
    numbers = torch.tensor([0, 1] * (len(volumes) // 2))
    material = encode_material(generator, volumes, numbers)
    chosen = settings(steps=240, batch_size=8, learning_rate=2e-3, ema_decay=0.9)
    weights = generator.named_parameters()
    _, losses = train(generator, weights, material, ["old", "young"], chosen, seed=0)
    own = np.array(losses)[:, 0]
    assert own[-20:].mean() < 0.7 * own[:20].mean()
    assert not any(name.startswith("codec") for name in weights)

    def draw(prompt, seeds):
        return sample(generator, [prompt] * len(seeds), seeds, steps=5, guidance=2.0, batch=2)

    three = draw("old", [1, 2, 3])
    assert three.shape == (3, 1, 16, 24, 16)
    assert torch.equal(three, draw("old", [1, 2, 3]))
    assert torch.allclose(draw("old", [2])[0], three[1], atol=1e-4)
    assert not torch.allclose(three[0], three[1], atol=0.01)
    assert not torch.allclose(draw("young", [1])[0], three[0], atol=1e-3)


def test_going_on_with_the_codec_gives_the_same_bits_as_not_stopping(volumes, tmp_path):
    def run(count, path):
        codec = build_codec(volumes.mean((0, 1)), width=8, latent_channels=4, seed=0)
        chosen = replace(SETTINGS, codec_width=8, latent_channels=4, codec_steps=count)
        losses = train_codec(codec, volumes, chosen, seed=1, state=path, save_every=2)
        return codec.state_dict(), losses

    whole, losses = run(4, None)
    run(2, tmp_path / "state.safetensors")
    again, resumed = run(4, tmp_path / "state.safetensors")
    assert resumed == losses and len(losses) == 4
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    with pytest.raises(ValueError, match="holds 4 steps, more than the 3 asked for; remove it"):
        run(3, tmp_path / "state.safetensors")


@pytest.mark.parametrize("part", ["codec", "train"])
def test_a_cut_off_step_goes_on_where_it_stopped(done, tmp_path, monkeypatch, part):
    made = done["prepare"]
    inputs = {name: made[name] for name in ("cohort", "stack", "prompts")}
    given = {k: v for k, v in steps.QUICK.items() if k in steps.SPEC.steps["finetune"].params}
    given |= CODEC | {"generator": "latent-volume", "condition": "full", "save_every": 10}
    given |= inputs | {"brains": made["volumes"], "checkpoints": str(tmp_path / "state")}
    module = f"stages.generation.{part}.save_state"
    save = __import__("stages.generation.state", fromlist=["save_state"]).save_state

    def stop(path, *, step, **state):
        save(path, step=step, **state)
        if step == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, stop)
        with pytest.raises(KeyboardInterrupt):
            steps.call("finetune", tmp_path / "cut", **given)
    resumed = steps.call("finetune", tmp_path / "resumed", **given)
    for name in ("weights", "losses", "codec"):
        assert resumed[name].read_bytes() == done["full"][name].read_bytes(), name


@pytest.mark.parametrize(
    "change",
    [
        {"latent_channels": 2},
        {"codec_width": 8},
        {"codec_steps": 5},
        {"codec_batch": 1},
        {"codec_rate": 0.01},
        {"kl_weight": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_of_the_codec_has_an_effect(done, tmp_path, change):
    made = done["prepare"]
    inputs = {name: made[name] for name in ("cohort", "stack", "prompts")}
    given = CODEC | {"generator": "latent-volume", "width": 16, "steps": 1, "grids": 0}
    given |= {"condition": "full", "brains": made["volumes"], "codec_steps": 4} | change
    tuned = steps.call("finetune", tmp_path, **inputs, **given)
    rows = [r for r in read_rows(tuned["losses"]) if r["model"] == "codec"]
    assert len(rows) == given["codec_steps"]
    usual = [r for r in read_rows(done["full"]["losses"]) if r["model"] == "codec"]
    if change.keys() == {"codec_steps"}:
        assert rows == usual[:5]
    else:
        assert [r["loss"] for r in rows] != [r["loss"] for r in usual[:4]]


def test_the_card_tells_what_the_codec_loses_and_holds_all_that_sampling_needs(done):
    card = json.loads(done["full"]["card"].read_text())
    told = {row["volumes"]: row for row in read_rows(done["full"]["codec"])}
    assert told.keys() == {"training real", "held-out real"}
    for name, row in card["Codec"]["Reconstruction"].items():
        assert row["brain_rms"] == pytest.approx(float(told[name]["brain_rms"]), rel=1e-5)
    assert card["VoxelMm"] == 10.0 and card["Codec"]["Shape"] == [16, 24, 16]
    assert card["Size"] is None
    assert "latent model of volumes from scratch (not Stable Diffusion)" in card["Provenance"]


def test_the_same_seed_gives_the_same_volumes_and_slices_are_cut_from_them(done, tmp_path):
    own = done["full"]
    given = {k: v for k, v in steps.QUICK.items() if k in steps.SPEC.steps["sample"].params}
    again = steps.call(
        "sample",
        tmp_path,
        weights=own["weights"],
        card=own["card"],
        prompts=done["prepare"]["prompts"],
        **(given | {"condition": "full"}),
    )
    for name in ("samples", "volumes", "table"):
        assert again[name].read_bytes() == own[name].read_bytes()
    brains = load_brains(str(own["volumes"]))
    assert brains.voxels.shape == (6, 16, 24, 16)
    gap = brains.slices().astype(int) - load_stack(str(own["samples"]))
    assert np.abs(gap).max() <= 1  # volumes were rounded to 8 bits, slices cut before


def test_real_slices_are_cut_from_volumes_too_and_whole_volumes_are_audited(done):
    found = done["evaluate"]
    table = {row["slices"] for row in read_rows(found["table1"])}
    assert {"held-out real AD", "held-out real at 1 mm AD", "training real CN"} <= table
    assert "held-out real through the codec AD" in table
    assert not any("pixels" in name for name in table)
    notes = json.loads(found["verdict"].read_text())["Notes"]
    (told,) = [note for note in notes if "encoded and decoded" in note]
    lost = {row["volumes"]: row for row in read_rows(done["full"]["codec"])}["held-out real"]
    assert f"off by {float(lost['brain_rms']):.3f} of white" in told and "of 10 mm" in told
    assert "augmentation" not in find_remedies(json.loads(done["full"]["card"].read_text()))
    audits = read_rows(found["memorisation"])
    assert [row["compared"] for row in audits] == ["slices", "volumes"]
    assert {row["n_held_out"] for row in audits} == {"2"}
    sizes = [r for r in read_rows(found["anatomy"]) if r["measure"] == "brain_volume_ml"]
    assert {r["slices"] for r in sizes} == {"synthetic (full)", "held-out real"}
    assert all(1000 < float(r["real_median"]) < 2000 for r in sizes)


def test_figures_of_volumes_say_what_is_real_in_them(done, written):
    for name in ("fullcodec", "fullvolumes", "volumes"):
        text = written[f"desc-{name}_T1w.png"]
        assert "latent model of volumes from scratch" in text, name
        assert "on synthetic scans" in text
    assert "all others: synthetic scans" in written["desc-volumes_T1w.png"]
    assert "held out: AD" in written["desc-volumes_T1w.png"]


def test_copies_of_training_volumes_are_all_found_and_other_people_are_not(
    done, volumes, trained, tmp_path
):
    """What a model remembers comes out of the codec; so do the copies here."""
    made = done["prepare"]
    brains = load_brains(str(made["volumes"]))
    lossy = Brains(to_voxels(trained[0].reconstruct(to_images(brains.voxels))), 10.0)
    seen = json.loads(done["full"]["card"].read_text())["TrainingParticipants"]
    for part, rate in (("train", 1.0), ("test", 0.0)):
        rows = [r for r in read_rows(made["cohort"]) if r["split"] == part]
        folder = tmp_path / part
        folder.mkdir()
        save_brains(
            str(folder / "volumes.safetensors"),
            Brains(lossy.voxels[[int(r["place"]) for r in rows]], lossy.voxel_mm),
        )
        lines = ["place\tcondition\tgroup\timage"]
        lines += [f"{i}\tc\t{r['group']}\t{r['participant_id']}" for i, r in enumerate(rows)]
        (folder / "samples.tsv").write_text("\n".join(lines) + "\n")
        found = audit_wholes(
            brains,
            lossy,
            str(made["cohort"]),
            [str(folder / "volumes.safetensors")],
            [str(folder / "samples.tsv")],
            {"c": seen},
            ["AD", "CN"],
            redraws=50,
            seed=0,
        )
        (audit,) = found.audits
        assert audit["copy_rate"] == rate
        assert len(found.near) == rate * len(rows)
        assert all(row["image"] == row["training_participant"] for row in found.near)


def test_sizes_and_coarse_voxels_are_what_they_are_by_hand():
    place = (np.indices((80, 96, 80)).T - (39.5, 47.5, 39.5)).T * 2.0
    distance = np.linalg.norm(place, axis=0)
    ball = ((distance < 50) & (distance > 10)).astype(np.uint8) * 200  # a hole that counts
    brains = Brains(ball[None], 2.0)
    assert measure_size(brains)[0] == pytest.approx(4 / 3 * np.pi * 5**3, rel=0.01)
    rows = flatten_volumes(brains)
    assert rows.shape == (1, 40 * 48 * 40)
    assert rows[0].reshape(40, 48, 40)[3, 20, 20] == ball[6:8, 40:42, 40:42].mean() / 255
    assert flatten_volumes(Brains(ball[None, ::2, ::2, ::2], 4.0)).shape == rows.shape


def test_one_volume_becomes_one_synthetic_participant(done, tmp_path):
    own = done["full"]
    given = {"condition": "full", "group": "CN", "image": "002", "table": own["table"]}
    given |= {"samples": own["samples"], "volumes": own["volumes"]}
    made = steps.call("export", tmp_path, **given)
    image = nib.load(made["volume"])
    assert image.shape == (16, 24, 16)
    (place,) = [
        int(r["place"])
        for r in read_rows(own["table"])
        if (r["group"], r["image"]) == ("CN", "002")
    ]
    assert np.array_equal(image.dataobj, load_brains(str(own["volumes"])).voxels[place])
    told = json.loads(
        (made["volume"].parent / "sub-synfullCN002_desc-generated_T1w.json").read_text()
    )
    assert told["Synthetic"] is True and told["Group"] == "CN"
    assert made["slice"].exists()
    lines = own["table"].read_text().splitlines()
    flat = tmp_path / "flat.tsv"  # of a model of slices; volumes are those of an earlier run
    cut = [line.rpartition("\t")[0] for line in lines]
    flat.write_text("\n".join(cut) + "\n")
    assert not steps.call("export", tmp_path / "2d", **(given | {"table": flat}))["volume"].exists()


def test_volumes_that_were_not_prepared_and_widths_that_do_not_fit_are_told(
    done, volumes, tmp_path
):
    inputs = {name: done["prepare"][name] for name in ("cohort", "stack", "prompts")}
    with pytest.raises(FileNotFoundError, match="no volumes; run step prepare with generator lat"):
        steps.call("finetune", tmp_path, **inputs, condition="full", generator="latent-volume")
    given = {"condition": "full", "generator": "latent-volume", "augmentation": 1.0}
    with pytest.raises(ValueError, match="augmentation and flip: for slices only; set them to 0"):
        steps.call("finetune", tmp_path, **inputs, **given)
    with pytest.raises(ValueError, match="codec_width 12: expected a multiple of 8"):
        build_codec(volumes.mean((0, 1)), width=12, latent_channels=4, seed=0)
    codec = build_codec(volumes.mean((0, 1)), width=8, latent_channels=4, seed=0)
    with pytest.raises(ValueError, match="width 12: expected a multiple of 8"):
        build_latent(codec, voxel_mm=10.0, width=12, seed=0)
