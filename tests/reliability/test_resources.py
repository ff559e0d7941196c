"""What runs out or goes away: the reason is said with its exit code, and the next run goes on."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.reliability.corpus_images import header_bytes, pack, voxels
from tests.reliability.harness import checksums, status_of
from tests.reliability.watching import damages

FAST = ("--runner", "inprocess")


@contextmanager
def mounted(folder: Path, options: str):
    """Mount a small file system in memory; the test is skipped where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def check_said(run, out: Path, codes: set[int], words: str) -> None:
    """Check code, reason, and that the status agrees with them where one could be written."""
    assert "Traceback" not in run.text, run.text
    assert "Logging error" not in run.text, run.text
    assert run.code in codes, run.text
    assert f"exit {run.code} (" in run.text
    if run.code:
        assert words in run.text, run.text
    if (out / "logs").is_dir() and [*out.glob("logs/run-*/status.json")]:
        assert status_of(out)["exit_code"] in codes


def check_goes_on(app, command, whole, out: Path) -> None:
    """Check that nothing was half-written and that running again completes everything."""
    assert not damages(out, whole)
    again = app.run(*command)
    assert again.code == 0, again.text
    assert checksums(out) == whole
    assert not [*out.rglob("logs/.part/*")]


@pytest.mark.parametrize("size", [8, 40, 80, 120, 200])
def test_a_full_disk_of_outputs(app, data, whole, tmp_path, tally, size):
    with mounted(tmp_path / "small", f"size={size}k") as small:
        out = small / "out"
        command = (data, out, "participant", "group", "-w", tmp_path / "work", *FAST)
        run = app.run(*command)
        check_said(run, out, {75}, "make room, then run again")
        remount(small, "size=50m")
        check_goes_on(app, command, whole, out)
    tally("disk of outputs full", 1)


@pytest.mark.parametrize(
    ("size", "runner"),
    [(8, "inprocess"), (40, "inprocess"), (120, "inprocess"), (40, "subprocess")],
)
def test_a_full_disk_of_work(app, data, whole, tmp_path, tally, size, runner):
    with mounted(tmp_path / "small", f"size={size}k") as small:
        out = tmp_path / "out"
        command = (data, out, "participant", "group", "-w", small / "work", "--runner", runner)
        run = app.run(*command)
        check_said(run, out, {75}, "make room, then run again")
        remount(small, "size=50m")
        check_goes_on(app, command, whole, out)
    tally("disk of scratch files full", 1)


@pytest.mark.parametrize("inodes", [5, 12, 25, 40, 60])
def test_no_inodes_left(app, data, whole, tmp_path, tally, inodes):
    with mounted(tmp_path / "small", f"nr_inodes={inodes}") as small:
        out = small / "out"
        command = (data, out, "participant", "group", "-w", tmp_path / "work", *FAST)
        run = app.run(*command)
        check_said(run, out, {75}, "make room, then run again")
        remount(small, "nr_inodes=100k")
        check_goes_on(app, command, whole, out)
    tally("no inodes left", 1)


def test_files_larger_than_allowed(app, own, tmp_path, tally):
    values = np.random.default_rng(0).normal(size=(48, 48, 48)).astype(np.float32)
    image = nib.Nifti1Image(values, np.eye(4))
    image.to_filename(own / "sub-02/anat/sub-02_T1w.nii.gz")
    out = tmp_path / "out"
    for runner in ("inprocess", "subprocess"):
        command = (own, out, "participant", "-w", tmp_path / "work", "--runner", runner)
        run = app.run(*command, limits={"FSIZE": 200_000})
        check_said(run, out, {75}, "")
        assert status_of(out)["participants"]["01"] == "done"
        assert status_of(out)["participants"]["02"] == "failed"
    assert app.run(*command).code == 0
    tally("file size limit (ulimit -f) reached", 2)


@pytest.mark.parametrize("runner", ["inprocess", "subprocess"])
def test_memory_runs_out_in_a_stage(app, own, tmp_path, tally, runner):
    header = bytes(header_bytes(shape=(2000, 2000, 1000)))  # the stage asks for 16 GB at once
    pack(header + voxels(), own / "sub-02/anat/sub-02_T1w.nii.gz")
    out = tmp_path / "out"
    command = (own, out, "participant", "--stages", "alpha", "-w", tmp_path / "work")
    run = app.run(*command, "--runner", runner, limits={"AS": 4 * 2**30})
    check_said(run, out, {75}, "memory ran out")
    assert [label for label, end in status_of(out)["participants"].items() if end != "done"] == [
        "02"
    ]
    tally("memory runs out in a stage", 1)


@pytest.mark.parametrize("place", ["bids_app.app.make_plan", "bids_app.jobs._run_workflow"])
def test_memory_runs_out_in_the_app(app, data, whole, tmp_path, tally, place):
    module, _, name = place.rpartition(".")
    before = f"import {module} as m\ndef fail(*a, **k): raise MemoryError\nm.{name} = fail"
    out = tmp_path / "out"
    command = (data, out, "participant", "group", "-w", tmp_path / "work", *FAST)
    check_said(app.run(*command, before=before), out, {75}, "memory ran out")
    check_goes_on(app, command, whole, out)
    tally("memory runs out in the app", 1)


@pytest.mark.parametrize(
    ("files", "runner"),
    [(n, "inprocess") for n in (7, 10, 14, 20, 30)] + [(n, "subprocess") for n in (10, 22)],
)
def test_file_descriptors_run_out(app, data, whole, tmp_path, tally, files, runner):
    out = tmp_path / "out"
    command = (data, out, "participant", "group", "-w", tmp_path / "work", "--runner", runner)
    run = app.run(*command, limits={"NOFILE": files})
    check_said(run, out, {0, 75}, "ulimit -n")
    check_goes_on(app, command, whole, out)
    tally("file descriptors run out", 1)


@pytest.fixture
def group():
    """A control group that can limit the number of processes; skipped where none can be made."""
    for hierarchy in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
        folder = Path(hierarchy) / f"brainstages-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if (folder / "pids.max").exists():
                yield folder
                return
        finally:
            folder.rmdir()
    pytest.skip("no control group for processes can be made here")


@pytest.mark.parametrize("runner", ["inprocess", "subprocess"])
@pytest.mark.parametrize("processes", [1, 2, 3, 4, 5, 6, 7, 8])
def test_processes_and_threads_run_out(app, data, whole, group, tmp_path, tally, processes, runner):
    """As by ulimit -u: at the first thread, at a worker, at what feeds the workers, at a stage."""
    (group / "pids.max").write_text(str(processes))
    join = f"import os\nopen({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
    out = tmp_path / "out"
    command = (data, out, "participant", "group", "-w", tmp_path / "work", "--runner", runner)
    run = app.run(*command, before=join)
    check_said(run, out, {0, 75}, "ulimit -u")
    assert not run.orphans()
    check_goes_on(app, command, whole, out)
    tally("processes and threads run out", 1)


def test_read_only_outputs(app, data, whole, tmp_path, tally):
    with mounted(tmp_path / "small", "size=50m") as small:
        out = small / "out"
        command = (data, out, "participant", "group", "-w", tmp_path / "work", *FAST)
        remount(small, "ro")
        check_said(app.run(*command), out, {73}, "must be writable")
        remount(small, "rw")
        assert app.run(*command).code == 0
        remount(small, "ro")
        run = app.run(*command)
        assert (run.code, "must be writable" in run.text) == (73, True), run.text
        assert "Traceback" not in run.text
        remount(small, "rw")
        check_goes_on(app, command, whole, out)
    tally("outputs are read-only", 2)


def test_raw_data_on_a_read_only_mount_are_enough(app, data, whole, tmp_path, tally):
    with mounted(tmp_path / "small", "size=50m") as small:
        raw = shutil.copytree(data, small / "raw")
        remount(small, "ro")
        out = tmp_path / "out"
        run = app.run(raw, out, "participant", "group", "-w", tmp_path / "work", *FAST)
        assert run.code == 0, run.text
        assert checksums(out) == whole
    tally("raw data are read-only", 1)


HIDE = """
import bids_app.jobs as j
from pathlib import Path
run = j._run_workflow
def hide(*a):
    Path({path!r}).rename({path!r} + ".hidden")
    return run(*a)
j._run_workflow = hide
"""


@pytest.mark.parametrize(
    ("name", "code", "failed", "runner"),
    [
        ("sub-02/anat/sub-02_T1w.nii.gz", 1, ["02"], "inprocess"),
        ("", 66, ["01", "02", "03", "04"], "inprocess"),
        ("", 66, ["01", "02", "03", "04"], "subprocess"),
    ],
)
def test_input_vanishes_after_planning(
    app, own, whole, tmp_path, tally, name, code, failed, runner
):
    out, hidden = tmp_path / "out", own / name
    command = (own, out, "participant", "group", "-w", tmp_path / "work", "--runner", runner)
    run = app.run(*command, before=HIDE.format(path=str(hidden)))
    check_said(run, out, {code}, "no longer there; is the folder still mounted?")
    ends = status_of(out)["participants"]
    assert [label for label in ends if ends[label] == "failed"] == failed
    Path(f"{hidden}.hidden").rename(hidden)
    check_goes_on(app, command, whole, out)
    tally("input vanishes after planning", 1)


@pytest.mark.parametrize("place", ["bids_app.workflow.run_workflow", "bids_app.execute._settle"])
def test_the_work_folder_is_cleaned_up_meanwhile(app, data, whole, tmp_path, tally, place):
    """As clusters clean scratch space: before the first job, and while jobs are at work."""
    module, _, name = place.rpartition(".")
    work, out = tmp_path / "work", tmp_path / "out"
    before = (
        f"import {module} as m, shutil\ngo_on = m.{name}\ndef late(*a, **k):\n"
        f"    shutil.rmtree({str(work)!r}, ignore_errors=True)\n    return go_on(*a, **k)\n"
        f"m.{name} = late"
    )
    command = (data, out, "participant", "group", "-w", work, *FAST)
    check_said(app.run(*command, before=before), out, {75}, "was it cleaned up meanwhile?")
    check_goes_on(app, command, whole, out)
    tally("work folder cleaned up meanwhile", 1)


def test_input_that_changes_while_it_is_read_is_read_again(app, own, tmp_path, tally):
    """Whether the step saw the old bytes or the new ones, the record must not claim the new."""
    out, image = tmp_path / "out", own / "sub-02/anat/sub-02_T1w.nii.gz"
    before = (
        "import bids_app.execute as e, shutil\nsettle = e._settle\ndef late(job, *a):\n"
        f"    shutil.copyfile({str(own / 'sub-03/anat/sub-03_T1w.nii.gz')!r}, {str(image)!r})\n"
        "    return settle(job, *a)\ne._settle = late"
    )
    command = (own, out, "participant", "--stages", "alpha", "-w", tmp_path / "work", *FAST)
    assert app.run(*command, before=before).code == 0
    assert app.run(*command).code == 0
    added = [
        out / f"brainstages-alpha/sub-{n}/anat/sub-{n}_desc-added_T1w.nii.gz" for n in ("02", "03")
    ]
    assert np.array_equal(*(nib.load(path).get_fdata() for path in added))
    tally("input changes while it is read", 1)


@pytest.mark.parametrize("jump", [-(10**9), -90000, 90000, 10**9])
def test_the_clock_jumps(app, data, whole, tmp_path, tally, jump):
    before = (
        "import time, itertools\nreal = time.time\ncalls = itertools.count()\n"
        f"time.time = lambda: real() + ({jump} if next(calls) % 2 else 0)"
    )
    out = tmp_path / "out"
    command = (data, out, "participant", "group", "-w", tmp_path / "work", *FAST)
    assert app.run(*command, before=before).code == 0
    assert checksums(out) == whole
    assert 0 <= status_of(out)["seconds"] < 90
    assert app.run(*command, before=before).code == 0
    assert status_of(out)["jobs"]["done"] == 0
    tally("clock jumps", 2)


@pytest.mark.parametrize("when", [1, 10**9, 4 * 10**9])
def test_the_dates_of_files_mean_nothing(app, own, whole, tmp_path, tally, when):
    """As after a copy, a restored backup, or on a file server whose clock is decades off."""
    out, image = tmp_path / "out", own / "sub-02/anat/sub-02_T1w.nii.gz"
    command = (own, out, "participant", "group", "-w", tmp_path / "work", *FAST)
    assert app.run(*command).code == 0
    for path in [*own.rglob("*"), *out.rglob("*")]:
        if path.name != "status.json":  # the newest is looked for below
            os.utime(path, (when, when))
    assert app.run(*command).code == 0
    assert checksums(out) == whole
    assert status_of(out)["jobs"]["done"] == 0, "done again though nothing but dates changed"
    other = (own / "sub-03/anat/sub-03_T1w.nii.gz").read_bytes()
    image.write_bytes(other)
    os.utime(image, (when, when))
    assert app.run(*command).code == 0
    added = "brainstages-alpha/sub-{0}/anat/sub-{0}_desc-added_T1w.nii.gz"
    assert np.array_equal(*(nib.load(out / added.format(n)).get_fdata() for n in ("02", "03")))
    tally("dates of files far off", 3)


@pytest.mark.parametrize("listener", ["none", "pipe that closes", "terminal that hangs up"])
def test_nobody_listens_any_more(checkout, data, whole, tmp_path, tally, listener):
    """As under a scheduler without standard streams, a pipe into ``head``, a lost connection."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "bids_app", data, out, "participant", "group", *FAST, "-w"]
    command += [tmp_path / "work", "--skip-bids-validation", "--no-validate-outputs"]
    if listener == "none":
        command = ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", *command]
    hears, says = os.openpty() if "terminal" in listener else os.pipe()
    run = subprocess.Popen(command, cwd=checkout, stdout=says, stderr=says, start_new_session=True)
    os.close(says)
    if listener != "none":
        os.read(hears, 1)  # the first line has come; then the listener goes
    os.close(hears)
    assert run.wait(90) == 0
    assert status_of(out)["exit_code"] == 0
    assert checksums(out) == whole
    tally("standard streams closed, broken or hung up", 1)
