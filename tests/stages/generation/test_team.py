"""Processes that share a training give what one gives, and end together."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stages.generation.tables import read_rows
from stages.generation.team import ALONE, current_team, launch
from tests.conftest import REPOSITORY
from tests.stages.generation import ranks, steps


def test_one_process_is_alone_whatever_a_scheduler_says(monkeypatch):
    for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "4")
    assert current_team() is ALONE
    assert torch.equal(ALONE.mean(torch.arange(2)), torch.arange(2))


def test_means_are_taken_over_all_and_the_environment_decides_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    launch(ranks.tell, {"folder": str(tmp_path)}, 2)
    told = {"mean": [0.5, 1.0], "threads": 2, "precision": ""}
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [told] * 2
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert "LOCAL_RANK" not in os.environ


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (ranks.die, RuntimeError, "process 1 of 2 died, most likely because memory ran out"),
        (ranks.fill_the_disk, OSError, "No space left on device"),
    ],
)
def test_what_befalls_one_ends_all_and_is_told(tmp_path, function, kind, message):
    started = time.monotonic()
    with pytest.raises(kind, match=message) as caught:
        launch(function, {"folder": str(tmp_path)}, 2)
    assert time.monotonic() - started < 300  # of the half hour that they would wait for each other
    if kind is OSError:
        assert caught.value.errno == errno.ENOSPC
        assert "in process 1 of 2" in caught.value.__notes__[0]


def test_nobody_outlives_the_process_that_started_them(tmp_path):
    script = (
        "from stages.generation.team import launch\n"
        "from tests.stages.generation import ranks\n"
        f"if __name__ == '__main__': launch(ranks.stay, {{'folder': {str(tmp_path)!r}}}, 2)\n"
    )
    (tmp_path / "start.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, tmp_path / "start.py"], env=environment)
    there = [tmp_path / f"{rank}.txt" for rank in (0, 1)]
    try:
        wait_until(lambda: all(path.exists() and path.read_text() for path in there))
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not any(is_running(int(path.read_text())) for path in there))


def test_two_processes_train_as_one_does_and_go_on_where_one_stopped(tmp_path):
    """All of it: prior images, moved images, dropped prompts, running means, validation."""
    folders = {name: tmp_path / name for name in ("alone", "two then one", "one then two")}
    for folder in folders.values():
        folder.mkdir()
    ranks.train_some(folders["alone"], 6)
    launch(ranks.train_together, {"folder": str(folders["two then one"]), "steps": 3}, 2)
    ranks.train_some(folders["two then one"], 6)
    ranks.train_some(folders["one then two"], 3)
    launch(ranks.train_together, {"folder": str(folders["one then two"]), "steps": 6}, 2)

    whole = load_file(folders["alone"] / "6 steps, 0 of 1.safetensors")
    assert len(whole["losses"]) == 6
    assert whole["validation"][:, 0].tolist() == [2, 4, 6]
    for name in ("two then one/6 steps, 0 of 1", "one then two/6 steps, 0 of 2"):
        found = load_file(tmp_path / f"{name}.safetensors")
        assert found.keys() == whole.keys()
        assert all(torch.allclose(found[k], whole[k], atol=1e-5) for k in whole), name
    # the second process ends with the same weights, and has neither looked nor saved
    first, second = (
        load_file(folders["one then two"] / f"6 steps, {rank} of 2.safetensors") for rank in (0, 1)
    )
    kept = [k for k in second if not k.startswith("best") and k != "validation"]
    assert all(torch.equal(first[k], second[k]) for k in kept)
    assert len(second["validation"]) == 1  # what it found in the state


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    from stages.generation.team import Team

    with pytest.raises(ValueError, match="batch_size 4 cannot be shared evenly by 3 processes"):
        ranks.train_some(tmp_path, 1, Team(0, 3))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="processes: 2 asked for, one GPU each, but 1 there"):
        launch(ranks.tell, {}, 2)


def test_the_step_shares_its_training(people, tmp_path):
    made = steps.call("prepare", tmp_path, **people, **names("prepare"))
    given = {name: made[name] for name in ("cohort", "stack", "prompts")} | {"condition": "full"}
    given |= names("finetune") | {"steps": 4, "text_encoder": False}
    one = steps.call("finetune", tmp_path / "one", **given)
    two = steps.call("finetune", tmp_path / "two", **given, processes=2)
    first, second = (
        [float(row["loss"]) for row in read_rows(made["losses"])] for made in (one, two)
    )
    assert first == pytest.approx(second, rel=1e-4)
    assert load_file(one["weights"]).keys() == load_file(two["weights"]).keys()
    assert json.loads(two["card"].read_text())["Processes"] == 2
    assert sorted(p.name for p in (tmp_path / "one").rglob("*")) == sorted(
        p.name for p in (tmp_path / "two").rglob("*")
    )


def names(step: str) -> dict:
    """Options of the quick toy study that a step has."""
    known = steps.SPEC.steps[step].params
    return {k: v for k, v in (steps.NAMES | steps.QUICK).items() if k in known}


def wait_until(is_so) -> None:
    end = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < end, "waited for two minutes"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for yet does not."""
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
