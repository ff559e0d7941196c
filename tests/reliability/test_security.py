"""Hostile files and neighbours: nothing is executed, nothing leaves the folders, nothing leaks."""

import ast
import configparser
import io
import os
import re
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_app.launch import Launch
from bids_app.plan import output_path
from bids_app.runner_docker import _limits as container_limits
from specs.entities import ENTITY_ORDER, build_path
from specs.reading import read_yaml
from specs.schema import Output, parse_spec
from stages.transfer.natural_images import read_cifar10
from tests.conftest import REPOSITORY
from tests.reliability.harness import checksums, status_of

FAST = ("--runner", "inprocess")
TOY_SPEC = REPOSITORY / "tests" / "toy" / "specs" / "alpha.yaml"
SOURCES = sorted(
    path
    for folder in ("bids_app", "specs", "stages")
    for path in (REPOSITORY / folder).rglob("*.py")
)
# Modules and functions that run what they read, or hand words to a shell.
BANNED_MODULES = {"pickle", "cPickle", "dill", "shelve", "marshal", "cloudpickle"}
BANNED_CALLS = {
    "eval",
    "exec",
    "os.system",
    "os.popen",
    "joblib.load",
    "pd.read_pickle",
    "pandas.read_pickle",
    "yaml.unsafe_load",
    "yaml.full_load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.export.load",
    "tempfile.mktemp",
}


def name_of(node: ast.expr) -> str:
    """Name what is called, with dots."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def faults_of(path: Path) -> list[str]:
    """List the calls and imports in a file that could run what comes from outside."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            )
            found += [f"imports {m}" for m in modules if (m or "").split(".")[0] in BANNED_MODULES]
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        last = name.rpartition(".")[2]
        if name in BANNED_CALLS:
            found.append(f"calls {name}")
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append("torch.load without weights_only=True")
        if given.get("allow_pickle", "False") != "False":
            found.append(f"{name} with allow_pickle")
        if given.get("shell", "False") != "False":
            found.append(f"{name} with a shell")
        if given.get("trust_remote_code", "False") != "False":
            found.append(f"{name} trusts remote code")
        if name == "yaml.load" and "Loader=loader" not in ast.unparse(node):
            found.append("yaml.load without a safe loader")
        if last == "extractall" and given.get("filter") != "'data'":
            found.append("an archive's members may leave its folder")
        if (
            last == "from_pretrained"
            and "local_files_only" not in given
            and "**" not in ast.unparse(node)
        ):
            found.append("from_pretrained may reach the network")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_no_source_runs_what_it_reads(path):
    assert not faults_of(path)


def test_the_search_finds_what_it_is_meant_to(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(
        "import pickle\nimport torch, yaml, subprocess, numpy as np\ntorch.load(x)\n"
        "yaml.load(x)\nsubprocess.run(x, shell=True)\nnp.load(x, allow_pickle=True)\neval(x)\n"
    )
    assert len(faults_of(path)) == 6


labels = st.text(min_size=1, max_size=12) | st.sampled_from(["..", "a/b", "/etc", "a\x00", "~"])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(ENTITY_ORDER), labels, max_size=4), labels, labels)
def test_no_label_leaves_the_dataset(entities, suffix, datatype):
    for make in (
        lambda: build_path(
            {**entities, "suffix": suffix, "extension": ".nii.gz", "datatype": datatype}
        ),
        lambda: output_path(Output("x", path="models/{a}/{b}.txt"), {"a": suffix, "b": datatype}),
        lambda: output_path(Output("x", table="scans", key="k"), {"sub": suffix, "ses": datatype}),
    ):
        try:
            path = make()
        except ValueError:
            continue
        assert os.path.normpath(path) == path
        assert not path.startswith(("/", ".."))
        assert "\x00" not in path


@pytest.mark.parametrize("way", ["path", "table"])
@settings(max_examples=200, deadline=None, derandomize=True)
@given(parts=st.lists(st.sampled_from(["..", "", ".", "a", "{sub}", "...", "~"]), max_size=5))
def test_no_pattern_of_a_spec_leaves_the_dataset(way, parts):
    tree, template = read_yaml(TOY_SPEC), "/".join(parts)
    spot = {"path": {"path": template}, "table": {"table": {"path": template, "key": "sub"}}}[way]
    tree["steps"]["add"]["outputs"]["total"] = spot
    try:
        output = parse_spec(tree, file=TOY_SPEC).steps["add"].outputs["total"]
    except ValueError:
        return
    place = os.path.normpath(os.path.join("/data", output_path(output, {"sub": "01"})))
    assert f"{place}/".startswith("/data/"), template


def test_members_of_an_archive_are_read_and_never_written(tmp_path):
    """An archive that would write above its folder or elsewhere, over a link, or as a device."""
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    archive = folder / "cifar-10-binary.tar.gz"
    record = bytes([3]) + bytes(3 * 32 * 32)
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("../../data_batch_1.bin", f"{tmp_path}/elsewhere/test_batch.bin"):
            member = tarfile.TarInfo(name)
            member.size = len(record)
            tar.addfile(member, io.BytesIO(record))
        for kind, name in ((tarfile.SYMTYPE, "link.bin"), (tarfile.CHRTYPE, "device.bin")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    read_cifar10(archive)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [archive]


def test_a_container_sees_no_network_and_may_nothing(tmp_path):
    """What Docker is asked for; that it obeys is its own affair."""
    launch = Launch(
        batch_file=tmp_path / "batch.json", log=tmp_path / "log", folder=tmp_path / "job",
        cache=tmp_path / "cache", read_only=("/data",), image="x", threads=2, memory_gb=1, gpus=0,
    )  # fmt: skip
    limits = container_limits(launch)
    assert limits["network_mode"] == "none"
    assert limits["cap_drop"] == ["ALL"]
    assert limits["security_opt"] == ["no-new-privileges"]
    assert limits["read_only"] is True
    writable = [mount["Target"] for mount in limits["mounts"] if not mount["ReadOnly"]]
    assert writable == [str(tmp_path / "job")]
    assert limits["mem_limit"] == limits["memswap_limit"] == 2**30


@pytest.mark.parametrize(
    "trap",
    [
        "brainstages-alpha/sub-02",
        "brainstages-alpha/logs",
        "brainstages-alpha/sub-02/anat",
        "brainstages-alpha/logs/jobs",
        "brainstages-alpha/logs/.part",
    ],
)
def test_a_link_in_the_outputs_leads_nowhere(app, data, tmp_path, tally, trap):
    victim = tmp_path / "victim"
    victim.mkdir()
    out = tmp_path / "out"
    (out / trap).parent.mkdir(parents=True)
    (out / trap).symlink_to(victim)
    command = (data, out, "participant", "--stages", "alpha", "-w", tmp_path / "work", *FAST)
    run = app.run(*command)
    assert "Traceback" not in run.text, run.text
    assert run.code in (1, 73, 74), run.text
    assert "nothing is written there" in run.text, run.text
    assert [p.name for p in victim.rglob("*") if p.name not in (".lock", ".claims")] == []
    tally("link in the outputs to a foreign folder", 1)


@pytest.mark.parametrize(
    "trap",
    [
        "brainstages.html",
        "brainstages-alpha/participants.tsv",
        "brainstages-alpha/dataset_description.json",
        "brainstages-alpha/sub-02/anat/sub-02_desc-added_T1w.nii.gz",
    ],
)
def test_a_link_in_place_of_a_file_is_replaced(app, data, tmp_path, tally, trap):
    victim = tmp_path / "victim.txt"
    victim.write_text("participant_id\tmine\nsub-01\tmine\n")
    before = victim.read_bytes()
    out = tmp_path / "out"
    (out / trap).parent.mkdir(parents=True)
    (out / trap).symlink_to(victim)
    command = (data, out, "participant", "--stages", "alpha", "-w", tmp_path / "work", *FAST)
    run = app.run(*command)
    assert run.code == 0, run.text
    assert victim.read_bytes() == before
    assert not (out / trap).is_symlink()
    tally("link in place of an output", 1)


def test_raw_data_stay_as_they_were(app, own, tmp_path, tally):
    def look():
        return {
            str(p): (p.lstat().st_mtime_ns, p.lstat().st_mode, p.lstat().st_ino)
            for p in sorted(own.rglob("*"))
        }

    before = (look(), checksums(own))
    out = tmp_path / "out"
    command = (own, out, "participant", "group", "-w", tmp_path / "work")
    app.run(*command, "--alpha-behaviour", "crash")
    assert app.run(*command, quick=False).code in (0, 70)
    assert (look(), checksums(own)) == before
    tally("raw data written by a run", 2)


MARKUP = "<img src=x onerror=alert(1)>"


def test_markup_in_data_is_shown_not_obeyed(app, own, tmp_path, tally):
    (own / "participants.tsv").write_text(f"participant_id\t{MARKUP}\nsub-01\t{MARKUP}\n")
    (own / "sub-02/anat/sub-02_T1w.nii.gz").write_text(MARKUP)
    folder = tmp_path / MARKUP.replace("/", "")
    own.rename(folder)
    out = tmp_path / "out"
    run = app.run(folder, out, "participant", "group", "-w", tmp_path / "work", *FAST)
    assert run.code == 1, run.text
    pages = [*out.rglob("*.html")]
    assert len(pages) >= 5
    assert not [path for path in pages if "<img src=x" in path.read_text()]
    tally("markup in data", 1)


def test_results_tell_nothing_of_this_machine(app, data, tmp_path, tally):
    out = tmp_path / "out"
    secret = "hush-0123456789"
    environment = {"API_TOKEN": secret, "HOME": f"{tmp_path}/home-of-somebody"}
    command = (data, out, "participant", "group", "-w", tmp_path / "work")
    assert app.run(*command, environment=environment).code == 0
    for path in out.rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode(errors="replace")
            assert secret not in text, path
            if "logs" not in path.relative_to(out).parts and path.suffix != ".html":
                assert str(tmp_path) not in text, path
                assert os.uname().nodename not in text or len(os.uname().nodename) < 4, path
    tally("secrets and home folders in results", 1)


@pytest.mark.parametrize("umask", [0o002, 0o027, 0o077])
def test_files_have_the_modes_that_the_user_chose(app, data, tmp_path, tally, umask):
    out = tmp_path / "out"
    command = (data, out, "participant", "group", "-w", tmp_path / "work", *FAST)
    assert app.run(*command, umask=umask).code == 0
    for path in [out, *out.rglob("*")]:
        wanted = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    tally("another umask", 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to any group")
def test_a_groups_folder_stays_the_groups(app, data, tmp_path, tally):
    out = tmp_path / "out"
    out.mkdir()
    os.chown(out, -1, 4242)
    out.chmod(0o2775)
    command = (data, out, "participant", "group", "-w", tmp_path / "work", *FAST)
    assert app.run(*command, umask=0o002).code == 0
    assert {path.stat().st_gid for path in out.rglob("*")} == {4242}
    assert status_of(out)["exit_code"] == 0
    tally("folder of a group (setgid)", 1)


def test_every_dependency_is_pinned():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    asked = setup["options"]["install_requires"].splitlines()
    for extra in setup["options.extras_require"].values():
        asked += extra.splitlines()

    def plain(text: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\s<>=!~\[;]", text.strip())[0]).lower()

    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {plain(line) for line in lines if re.match(r"[\w.-]+==\S+$", line)}
    wanted = {plain(line) for line in asked if line.strip()} - {"brainstages"}
    assert not sorted(wanted - pinned), "not in constraints.txt"
    loose = [
        line for line in lines if line.strip() and not line.startswith("#") and "==" not in line
    ]
    assert not loose


def test_every_pinned_package_has_a_hash():
    """The lock file names the very versions of constraints.txt; torch may be a build of its own."""

    def pins(name: str) -> dict[str, str]:
        lines = (REPOSITORY / name).read_text().splitlines()
        found = [re.match(r"([\w.-]+)==([\w.!]+)", line) for line in lines]
        return {re.sub(r"[-_.]+", "-", m[1]).lower(): m[2] for m in found if m}

    assert pins("constraints.lock") == pins("constraints.txt"), "python -m tests.reliability.lock"
    locked = (REPOSITORY / "constraints.lock").read_text().splitlines()
    assert all(re.search(r" --hash=sha256:[0-9a-f]{64}$", x) for x in locked if x[0] != "#")
