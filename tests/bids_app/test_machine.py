"""What a process may use, on machines made of files."""

import pytest

from bids_app import machine


def test_a_cgroups_quota_limits_the_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(16)))
    assert machine.available_cpus({}, cgroup=tmp_path) == 16
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert machine.available_cpus({}, cgroup=tmp_path) == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.available_cpus({}, cgroup=tmp_path) == 16
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert machine.available_cpus({}, cgroup=tmp_path) == 1


def test_slurm_limits_cores_and_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(16)))
    assert machine.available_cpus({"SLURM_CPUS_PER_TASK": "4"}, cgroup=tmp_path) == 4
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       67108864 kB\n")
    given = {"cgroup": tmp_path, "meminfo": meminfo}
    assert machine.available_memory_gb({}, **given) == 64
    assert machine.available_memory_gb({"SLURM_MEM_PER_NODE": "8192"}, **given) == 8
    (tmp_path / "memory.max").write_text(str(3 * 2**30))
    assert machine.available_memory_gb({}, **given) == 3


@pytest.mark.parametrize("text", ["", "G", "-1", "1 P", "nan", "1e3"])
def test_odd_amounts_of_memory_are_refused(text):
    with pytest.raises(ValueError, match="expected a number of MB"):
        machine.parse_memory_gb(text)
