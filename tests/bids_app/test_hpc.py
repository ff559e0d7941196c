"""What schedulers are asked for, and how jobs are gathered for them; no scheduler is needed."""

from pathlib import Path

import pytest

import specs
from bids_app import cli, hpc
from bids_app.errors import AppError, Exit
from bids_app.sbatch import make_scripts
from bids_app.workflow import cut_batches
from specs.job import Job

LOG = Path("/shared/log.txt")
NEED = hpc.Need(cpus=4, memory_gb=6.5, minutes=90.2, gpus=1, log=LOG)
EXPECTED = {
    "SLURM": (
        "sbatch_args",
        "--ntasks=1 --cpus-per-task=4 --mem=6656M --gres=gpu:1 --time=91"
        " --output=/shared/log.txt --error=/shared/log.txt",
    ),
    "PBS": (
        "qsub_args",
        "-V -l select=1:ncpus=4:mem=6656mb:ngpus=1 -l walltime=1:31:00 -j oe"
        " -o /shared/log.txt -e /shared/log.txt",
    ),
    "SGE": (
        "qsub_args",
        "-V -cwd -pe smp 4 -l h_vmem=1664M -l gpu=1 -l h_rt=1:31:00 -j y"
        " -o /shared/log.txt -e /shared/log.txt",
    ),
    "LSF": (
        "bsub_args",
        "-n 4 -R span[hosts=1] -M 6656MB -gpu num=1 -W 91 -o /shared/log.txt -e /shared/log.txt",
    ),
}


@pytest.mark.parametrize("plugin", hpc.SCHEDULERS)
def test_each_scheduler_is_asked_in_its_own_words(plugin):
    option, words = EXPECTED[plugin]
    given = {option: "-q short", "max_jobs": 3}
    assert hpc.node_arguments(plugin, NEED, given) == {
        option: f"{words} -q short",
        "overwrite": True,
    }
    without = hpc.Need(cpus=1, memory_gb=1, minutes=1, gpus=0, log=LOG)
    assert "gpu" not in hpc.node_arguments(plugin, without, {})[option]


def test_head_room_is_added():
    need = hpc.need_of(cpus=2, memory_gb=3, minutes=4, gpus=0, jobs=5, log=LOG)
    assert need.memory_gb == 3 + hpc.OWN_MEMORY_GB
    assert need.minutes == 4 * 5 * hpc.TIME_FACTOR + hpc.TIME_MARGIN_MINUTES


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("slurmstepd: error: Job 7 exceeded memory limit (900 > 500), being killed", "memory that"),
        ("slurmstepd: error: Detected 1 oom-kill event(s)", "memory that"),
        ("CANCELLED AT 2024-01-01T00:00:00 DUE TO TIME LIMIT", "time that"),
        ("=>> PBS: job killed: walltime 61 exceeded limit 60", "time that"),
        ("", "from outside"),
    ],
)
def test_a_schedulers_verdict_is_understood(said, words):
    assert words in hpc.verdict(said)


def job(label: int, level: str = "participant") -> Job:
    """Make a job of a real step without files."""
    stage = "preprocessing"
    step = next(iter(specs.load(stage).steps))
    key = {"sub": f"{label:04d}"} if level == "participant" else {}
    return Job(
        stage=stage, step=step, version="1", level=level, key=key,
        inputs={}, outputs={}, params={}, seed=0,
    )  # fmt: skip


def test_a_thousand_small_jobs_are_few_submissions():
    jobs = [job(number) for number in range(1000)]
    batches = cut_batches(jobs, nprocs=64, omp_nthreads=0, is_cluster=True)
    minutes = batches[0].step.resources.minutes
    assert all(len(batch.jobs) * minutes <= 30.001 for batch in batches)
    assert len(batches) <= 1000 * minutes / 30 + 2
    assert batches[0].threads == batches[0].step.resources.cpus
    assert sum(len(batch.jobs) for batch in batches) == 1000


@pytest.fixture
def config(tmp_path):
    """Settings for a run on a cluster."""
    return cli.parse(
        [str(tmp_path / "raw"), str(tmp_path / "out"), "participant", "group",
         "-w", str(tmp_path / "work"), "--random-seed", "7"],
        {},
    )  # fmt: skip


def test_scripts_hold_an_array_and_a_dependent_group(config, tmp_path):
    jobs = [*(job(number) for number in range(3000)), job(0, "group")]
    labels = [f"{number:04d}" for number in range(3000)]
    scripts = make_scripts(config, jobs, labels, tmp_path)
    lines = scripts["participants.txt"].splitlines()
    assert " ".join(lines).split() == labels
    assert len(lines) <= 1000
    assert f"#SBATCH --array=1-{len(lines)}\n" in scripts["participant.sbatch"]
    assert "--participant-label $labels" in scripts["participant.sbatch"]
    assert "--dependency=afterok:$participants --kill-on-invalid-dep=yes" in scripts["submit.sh"]
    assert "random_seed = 7" in scripts["config.toml"]


def test_a_run_without_a_group_has_no_group_script(config, tmp_path):
    scripts = make_scripts(config, [job(1)], ["0001"], tmp_path)
    assert "group.sbatch" not in scripts
    assert "group=" not in scripts["submit.sh"]


def test_a_cluster_needs_a_work_folder_that_it_can_see(tmp_path):
    line = [str(tmp_path / "raw"), str(tmp_path / "out"), "participant", "--plugin", "SLURM"]
    with pytest.raises(AppError, match="give a work folder that all nodes see, with -w") as caught:
        cli.parse(line, {})
    assert caught.value.code is Exit.USAGE
    with pytest.raises(AppError, match="cannot pass on a path with spaces"):
        cli.parse([*line, "-w", str(tmp_path / "my work")], {})


@pytest.mark.parametrize(("words", "expected"), [((), 8), (("--n-gpus", "0"), 0)])
def test_gpus_can_be_done_without(tmp_path, words, expected):
    line = [str(tmp_path / "raw"), str(tmp_path / "out"), "participant", *words]
    assert cli.parse(line, {}).n_gpus == expected
    with pytest.raises(AppError, match="at least 1"):
        cli.parse([*line, "--n-gpus", "-1"], {})
