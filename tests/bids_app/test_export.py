"""Files for other launchers, checked by those launchers' own validators and by our own parser."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import boutiques
import pytest
import yaml

import specs
from bids_app import app, cli
from bids_app.export import EXPORTS, stages_of_raw_data


@pytest.fixture
def exported(tmp_path, capsys):
    """Write the files of one format; return their folder."""

    def write(kind: str) -> Path:
        assert app.main(["export", kind, str(tmp_path / kind)]) == 0
        return tmp_path / kind

    return write


def simulate(descriptor: Path, invocation: dict, folder: Path) -> list[str]:
    """Let Boutiques make the command line of an invocation."""
    path = folder / "invocation.json"
    path.write_text(json.dumps(invocation))
    boutiques.bosh(["invocation", str(descriptor), "-i", str(path)])
    done = boutiques.bosh(["exec", "simulate", str(descriptor), "-i", str(path)])
    return shlex.split(done.shell_command)[1:]


def test_the_descriptor_is_valid_and_holds_every_option(exported, capsys):
    path = exported("boutiques") / "brainstages.json"
    boutiques.validate(str(path))
    descriptor = json.loads(path.read_text())
    flags = {item.get("command-line-flag") for item in descriptor["inputs"]}
    for name in specs.names():
        for param in specs.load(name).params:
            assert f"--{name}-{param.replace('_', '-')}" in flags
    capsys.readouterr()
    assert app.main(["--bids-exec-spec"]) == 0
    assert json.loads(capsys.readouterr().out) == descriptor


def test_what_boutiques_makes_of_it_is_understood(exported, tmp_path):
    (tmp_path / "raw").mkdir()
    name, param = next(
        (name, param)
        for name in specs.names()
        for param in specs.load(name).params.values()
        if param.type == "int" and not param.choices and not param.many
    )
    value = param.default + 1
    invocation = {
        "bids_dir": str(tmp_path / "raw"),
        "out_dir": str(tmp_path / "out"),
        "levels": ["participant", "group"],
        "participant_label": ["01", "02"],
        "memory_gb": "8G",
        "nprocs": 3,
        "skip_bids_validation": True,
        f"{name}_{param.name}": value,
    }
    line = simulate(exported("boutiques") / "brainstages.json", invocation, tmp_path)
    config = cli.parse(line, {})
    assert config.levels == ("participant", "group")
    assert config.participant_label == ("01", "02")
    assert (config.memory_gb, config.nprocs, config.skip_bids_validation) == (8, 3, True)
    assert config.params == {name: {param.name: value}}


def test_nipoppys_folder_is_whole_and_tracks_what_is_promised(exported, tmp_path):
    folder = exported("nipoppy")
    config = json.loads((folder / "config.json").read_text())
    (step,) = config["STEPS"]
    assert {path.name for path in folder.iterdir()} == {"config.json", *step.values()}
    boutiques.validate(str(folder / "descriptor.json"))
    tracker = json.loads((folder / "tracker.json").read_text())
    assert len(tracker["PATHS"]) >= 1
    assert all(path.startswith("brainstages-") for path in tracker["PATHS"])
    text = (folder / "invocation.json").read_text()
    for variable, value in {
        "[[NIPOPPY_DPATH_BIDS]]": str(tmp_path / "raw"),
        "[[NIPOPPY_DPATH_PIPELINE_OUTPUT]]": str(tmp_path / "out"),
        "[[NIPOPPY_DPATH_PIPELINE_WORK]]": str(tmp_path / "w"),
        "[[NIPOPPY_PARTICIPANT_ID]]": "01",
        "[[NIPOPPY_SESSION_ID]]": "1",
    }.items():
        text = text.replace(variable, value)
    assert "[[" not in text
    cli.parse(simulate(folder / "descriptor.json", json.loads(text), tmp_path), {})


@pytest.mark.skipif(shutil.which("nipoppy") is None, reason="nipoppy is not installed")
def test_nipoppy_itself_accepts_the_folder(exported):
    done = subprocess.run(
        ["nipoppy", "pipeline", "validate", str(exported("nipoppy"))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_babs_settings_are_options_that_exist(exported, tmp_path):
    settings = yaml.safe_load((exported("babs") / "brainstages.yaml").read_text())
    line = [str(tmp_path / "raw"), str(tmp_path / "out"), "participant"]
    for flag, value in settings["bids_app_args"].items():
        if flag == "$SUBJECT_SELECTION_FLAG":
            line += [value, "sub-01"]
        else:
            line += [flag, *str(value).replace("$BABS_TMPDIR", str(tmp_path / "w")).split()]
    config = cli.parse(line, {})
    assert config.participant_label == ("01",)
    assert config.stages == tuple(spec.name for spec in stages_of_raw_data([]))
    assert {"zip_foldernames", "cluster_resources", "job_compute_space"} <= settings.keys()


def test_a_format_that_does_not_exist(capsys):
    assert app.main(["export", "cwl", "somewhere"]) == 64
    assert "{boutiques,nipoppy,babs}" in capsys.readouterr().err
    assert set(EXPORTS) == {"boutiques", "nipoppy", "babs"}


def test_a_stage_that_does_not_exist(tmp_path, capsys):
    assert app.main(["export", "nipoppy", str(tmp_path), "preprocesing"]) == 64
    assert "preprocessing" in capsys.readouterr().err
