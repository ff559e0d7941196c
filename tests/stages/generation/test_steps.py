"""The steps on files: the same seed gives the same bytes, and what goes wrong is told."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from stages.generation.provenance import origin_of
from stages.generation.slices import load_stack
from stages.generation.tables import read_rows
from tests.conftest import REPOSITORY
from tests.stages.generation import steps


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    """What each figure says, by the name of its file."""
    return {}


@pytest.fixture(scope="module")
def done(people, tmp_path_factory, written):
    """All steps but export, once; what is written into figures is kept."""
    save = Figure.savefig

    def keep(figure, path, **options):
        save(figure, path, **options)
        written[Path(path).name] = "\n".join(t.get_text() for t in figure.findobj(Text))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", keep)
        return steps.run_all(tmp_path_factory.mktemp("done"), people)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(people, done, tmp_path):
    again = steps.run_all(tmp_path / "again", people)
    for step, names in {
        "prepare": ["cohort", "stack", "prompts"],
        "full": ["weights", "samples", "table"],
        "evaluate": ["table1", "contrasts", "memorisation", "similarity", "anatomy"],
    }.items():
        for name in names:
            assert done[step][name].read_bytes() == again[step][name].read_bytes(), name
    other = steps.run_all(tmp_path / "other", people, seed=1)
    assert done["full"]["samples"].read_bytes() != other["full"]["samples"].read_bytes()


def test_a_cut_off_run_goes_on_where_it_stopped(people, done, tmp_path):
    """Two thirds of the steps, then all of them with the state that was kept."""
    kept = {"checkpoints": str(tmp_path / "state"), "save_every": 10}
    made = done["prepare"]
    inputs = {name: made[name] for name in ("cohort", "stack", "prompts")}
    given = {k: v for k, v in steps.QUICK.items() if k in steps.SPEC.steps["finetune"].params}
    given["condition"] = "full"
    script = (
        "import os, stages.generation.state as s, tests.stages.generation.steps as t;"
        "old = s.save_state;"
        "import stages.generation.train as tr;"
        "tr.save_state = lambda p, **k: (old(p, **k), k['step'] == 20 and os._exit(9));"
        f"folder = t.Path({str(tmp_path / 'cut')!r});"
        f"t.call('finetune', folder, **{dict(inputs, **given, **kept)!r})"
    ).replace("PosixPath", "str")
    cut = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True)
    assert cut.returncode == 9, cut.stderr.decode()[-2000:]
    assert not list((tmp_path / "cut").rglob("generator.safetensors"))
    resumed = steps.call("finetune", tmp_path / "resumed", **inputs, **given, **kept)
    assert resumed["weights"].read_bytes() == done["full"]["weights"].read_bytes()
    assert resumed["losses"].read_bytes() == done["full"]["losses"].read_bytes()


def test_the_card_says_what_the_model_is_and_on_whom_it_was_trained(done):
    card = json.loads(done["full"]["card"].read_text())
    rows = read_rows(done["prepare"]["cohort"])
    trained = {r["participant_id"] for r in rows if r["split"] == "train"}
    assert card["TrainingParticipants"] == [f"bids::{name}" for name in sorted(trained)]
    assert "not Stable Diffusion" in card["Provenance"]


def test_every_figure_says_what_is_real_in_it_and_what_made_the_rest(done, written):
    made = {"fullloss", "fulltraining", "fullsamples", "examples", "ratios", "neighbours"}
    names = {name.split("desc-")[1].split("_")[0]: name for name in written}
    assert names.keys() == made | {"cohort"}
    assert "slices of synthetic scans" in written[names["cohort"]]
    for name in made:
        text = " ".join(written[names[name]].split())
        assert "model from scratch (not Stable Diffusion), 30 steps on synthetic scans" in text
    for name in ("examples", "ratios", "neighbours"):
        assert "all others: synthetic scans" in " ".join(written[names[name]].split())


def test_what_the_models_resolution_does_stands_beside_every_measure(done):
    for table in ("table1", "anatomy"):
        names = {row["slices"] for row in read_rows(done["evaluate"][table])}
        assert any(name.startswith("held-out real at 32 pixels") for name in names), table
    rows = [r for r in read_rows(done["evaluate"]["anatomy"]) if r["measure"] == "symmetry"]
    by_name = {(r["slices"], r["group"]): float(r["median"]) for r in rows}
    for group in ("AD", "CN"):  # detail is what is not symmetric
        assert by_name["held-out real at 32 pixels", group] > by_name["held-out real", group]


def test_scans_are_real_unless_their_dataset_says_otherwise(people, tmp_path):
    participants = tmp_path / "participants.tsv"
    assert origin_of(people["participants"]) == "synthetic"
    assert origin_of(participants) == "real"
    for makers, origin in (
        ([{"Name": "dcm2bids"}], "real"),
        ([{"Name": "my phantom"}], "synthetic"),
    ):
        description = {"Name": "x", "GeneratedBy": makers}
        (tmp_path / "dataset_description.json").write_text(json.dumps(description))
        assert origin_of(participants) == origin
    (tmp_path / "dataset_description.json").write_text("{")
    assert origin_of(participants) == "real"


def test_one_slice_becomes_one_synthetic_participant(done, tmp_path):
    name = {"condition": "full", "group": "CN", "image": "002"}
    made = steps.call(
        "export", tmp_path, samples=done["full"]["samples"], table=done["full"]["table"], **name
    )
    assert made["slice"].name == "sub-synfullCN002_desc-generated_T1w.nii.gz"
    (row,) = read_rows(made["person"])
    assert row["participant_id"] == "sub-synfullCN002"
    assert row["prompt"] == "CN, a MRI brain"
    sidecar = json.loads(
        made["slice"].with_name("sub-synfullCN002_desc-generated_T1w.json").read_text()
    )
    assert sidecar["Synthetic"] is True
    assert sidecar["NoiseSeed"] == int(row["seed"])
    image = nib.load(made["slice"])
    assert image.shape == (160, 1, 160)
    assert image.header.get_data_dtype() == np.uint8
    stack = load_stack(str(done["full"]["samples"]))
    places = [
        int(r["place"])
        for r in read_rows(done["full"]["table"])
        if (r["group"], r["image"]) == ("CN", "002")
    ]
    assert np.array_equal(np.asarray(image.dataobj)[:, 0].T[::-1], stack[places[0]])


def test_a_slice_that_was_not_drawn_is_told(done, tmp_path):
    with pytest.raises(ValueError, match="0 slices of group CN, image 099; run prepare and sample"):
        steps.call(
            "export",
            tmp_path,
            samples=done["full"]["samples"],
            table=done["full"]["table"],
            condition="full",
            group="CN",
            image="099",
        )


def test_weights_that_are_not_the_cards_are_refused(done, tmp_path):
    other = tmp_path / "generator.safetensors"
    other.write_bytes(done["full"]["weights"].read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"not the weights that .* describes; train again"):
        steps.call(
            "sample",
            tmp_path,
            weights=other,
            card=done["full"]["card"],
            prompts=done["prepare"]["prompts"],
        )


def test_a_full_disk_while_sampling_is_told_as_such(done, tmp_path):
    """A limit on the size of files stands for the full disk; both end in an error of the system."""
    given = {k: v for k, v in steps.QUICK.items() if k in steps.SPEC.steps["sample"].params}
    given["condition"] = "full"
    given |= {"weights": str(done["full"]["weights"]), "card": str(done["full"]["card"])}
    given["prompts"] = str(done["prepare"]["prompts"])
    script = (
        "import tests.stages.generation.steps as t, stages.__main__ as m\n"
        f"try: t.call('sample', t.Path({str(tmp_path)!r}), **{given!r})\n"
        "except OSError as e: print('errno', e.errno, m.exit_code_of(e))"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done_ = subprocess.run(
        [sys.executable, "-B", "-c", script],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert done_.stdout.startswith("errno 27 7"), done_.stderr[-2000:]
    full = Path("/dev/full")
    if full.exists():
        from stages.generation.slices import save_stack

        with pytest.raises(OSError, match="No space left on device"):
            save_stack(str(full), np.zeros((1, 160, 160), np.uint8))


@pytest.mark.parametrize(
    "given",
    [
        {"models": "separate"},
        {"condition": ["full", "short"], "prompt": ["{word}, a MRI brain", "{word}"]},
        {"balance": False, "drop_prompt": 0.0, "ema_decay": 0.0, "guidance": 1.0, "min_snr": 0.0},
    ],
    ids=["separate", "conditions", "plain"],
)
def test_options_have_an_effect(people, done, tmp_path, given):
    other = steps.run_all(tmp_path, people, **given)
    assert other["full"]["samples"].read_bytes() != done["full"]["samples"].read_bytes() or (
        "condition" in given
    )
    table = read_rows(other["evaluate"]["table1"])
    conditions = {row["condition"] for row in table if row["origin"] == "synthetic"} - {"n/a"}
    assert conditions == set(given.get("condition", ["full"]))
