"""The command line: spellings, layers, refusals; each option arrives where it is used."""

import json
import sys
import tomllib

import pytest

import specs
from bids_app import cli, demo_run
from bids_app.app import main
from bids_app.config import read_config_file
from bids_app.errors import AppError, Exit

PREFIX = ["in", "out", "participant"]


def parse(*arguments, environ=None):
    """Parse with the positionals in front."""
    return cli.parse([*PREFIX, *map(str, arguments)], environ or {})


def refuse(*arguments, code=Exit.USAGE):
    """Parse what must be refused; return the message."""
    with pytest.raises(AppError) as caught:
        parse(*arguments)
    assert caught.value.code is code
    return str(caught.value)


@pytest.mark.parametrize(
    "flag",
    ["--participant-label", "--participant_label", "--participant-labels", "--participant_labels"],
)
def test_participants_in_every_spelling_with_and_without_prefix(flag):
    assert parse(flag, "sub-02", "01", "02").participant_label == ("02", "01")


@pytest.mark.parametrize("flag", ["--session-label", "--session_label", "--session-id"])
def test_sessions_in_every_spelling(flag):
    assert parse(flag, "ses-pre", "post").session_label == ("pre", "post")


@pytest.mark.parametrize(
    "flag", ["--nprocs", "--nthreads", "--n_cpus", "--n-cpus", "--n_procs", "--n-procs"]
)
def test_cores_in_every_spelling(flag):
    assert parse(flag, "3").nprocs == 3


@pytest.mark.parametrize(
    ("arguments", "memory_gb"),
    [
        (["--mem", "2048"], 2.0),
        (["--mem_mb", "512"], 0.5),
        (["--mem-mb", "8G"], 8.0),
        (["--mem", "1.5T"], 1536.0),
        (["--mem-gb", "6.5"], 6.5),
        (["--mem_gb", "6"], 6.0),
    ],
)
def test_memory_in_every_spelling_and_unit(arguments, memory_gb):
    assert parse(*arguments).memory_gb == pytest.approx(memory_gb)


def test_memory_that_means_nothing_is_refused_by_its_options_name():
    with pytest.raises(AppError, match=r"^mem-gb: found -1.0, expected a positive number$"):
        parse("--mem-gb", "-1")


def test_switches_and_names_arrive():
    config = parse(
        *("--skip_bids_validation", "--no-validate-outputs", "--omp_nthreads", "2"),
        *("--runner", "inprocess", "--plugin", "Linear", "--random-seed", "7", "-vv", "--debug"),
        *("--stop-on-first-crash", "--resource-monitor", "--write-graph", "--clean-workdir"),
        *("--rm-workdir-on-success", "--reports-only", "--boilerplate-only", "--dry-run"),
        *("--notrack", "--stages", "preprocessing"),
    )
    assert config.skip_bids_validation
    assert not config.validate_outputs
    assert (config.omp_nthreads, config.runner, config.plugin) == (2, "inprocess", "Linear")
    assert (config.random_seed, config.verbose, config.stages) == (7, 2, ("preprocessing",))
    for name in (
        *("debug", "stop_on_first_crash", "resource_monitor", "write_graph", "clean_workdir"),
        *("dry_run", "rm_workdir_on_success", "reports_only", "boilerplate_only"),
    ):
        assert getattr(config, name) is True


def test_several_levels_may_be_given_in_order():
    config = cli.parse(["in", "out", "group", "participant", "--nprocs", "1"], {})
    assert config.levels == ("group", "participant")


def test_the_work_folder_follows_tmpdir(tmp_path):
    assert parse(environ={"TMPDIR": str(tmp_path)}).work_dir == tmp_path / "work"
    assert parse("-w", tmp_path / "w").work_dir == tmp_path / "w"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--participant-label", "../../etc"], "no sub- label: letters and digits only, no paths"),
        (["--session-label", "a/b"], "no ses- label"),
        (["--nprocs", "0"], "at least 1"),
        (["--mem", "lots"], "found 'lots', expected a number of MB"),
        (["--mem", "0"], "expected a number of MB"),
        (["--stages", "preprocesing"], "did you mean 'preprocessing'"),
        (["--recipe", "sex-slice"], "no recipe 'sex-slice'"),
        (["--preset", "gigantic"], "no preset 'gigantic'"),
        (["-d", "fmriprep"], "expected NAME=PATH"),
        (["-d", "preprocessing=."], "is a stage's name"),
        (["-d", "x=.", "x=."], "given twice"),
        (["--preprocessing-dof", "5"], "found 5, expected one of"),
        (["--preprocessing-engine", "fls"], "did you mean 'fsl'"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["-w", "in/work"], "inside the input dataset; give another with -w"),
    ],
)
def test_what_cannot_be_is_refused_in_words(arguments, message):
    assert message in refuse(*arguments)


def test_the_dataset_itself_is_no_output_folder():
    with pytest.raises(AppError, match=r"try .*derivatives"):
        cli.parse(["in", "in", "participant"], {})


def test_an_unknown_level_has_its_own_exit_code():
    with pytest.raises(AppError, match="did you mean 'participant'") as caught:
        cli.parse(["in", "out", "participants"], {})
    assert caught.value.code is Exit.UNKNOWN_LEVEL


@pytest.mark.parametrize("flag", ["-d", "--weights"])
def test_named_paths_must_be_there(flag, tmp_path):
    config = parse(flag, f"thing={tmp_path}")
    assert {**config.derivatives, **config.weights} == {"thing": tmp_path}
    message = refuse(flag, f"thing={tmp_path}/gone", code=Exit.MISSING_FILE)
    assert "gone: no such file or folder" in message


def test_the_command_line_beats_the_file_beats_the_recipe_beats_the_default(tmp_path):
    spec = specs.load("preprocessing")
    file = tmp_path / "settings.toml"
    assert parse().stage_params(spec)["profile"] == spec.params["profile"].default
    assert parse("--recipe", "sex-slices").stage_params(spec)["profile"] == ["fsl-anat"]
    file.write_text("recipe = 'sex-slices'\n[preprocessing]\nprofile = ['coronal']\n")
    assert parse("--config-file", file).stage_params(spec)["profile"] == ["coronal"]
    line = parse("--config-file", file, "--preprocessing-profile", "mni-gm")
    assert line.stage_params(spec)["profile"] == ["mni-gm"]


def test_yaml_and_toml_say_the_same(tmp_path):
    toml, yaml = tmp_path / "a.toml", tmp_path / "a.yaml"
    toml.write_text(
        "n-procs = 3\n".replace("n-procs", "nprocs") + "[preprocessing]\ncrop = false\n"
    )
    yaml.write_text("nprocs: 3\npreprocessing: {crop: false}\n")
    assert read_config_file(toml) == read_config_file(yaml)
    assert parse("--config-file", yaml).nprocs == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nproc = 3", "nproc: no such option or stage (did you mean 'nprocs'?)"),
        ("nprocs = 'three'", "nprocs: found 'three', expected int"),
        ("nprocs = true", "nprocs: found True, expected int"),
        ("participant_label = [1]", "expected a list of words (in quotes)"),
        ("dry_run = 1", "dry_run: found 1, expected bool"),
        ("derivatives = 'x'", "expected values by name"),
        ("work_dir = 1", "expected a path"),
        (
            "[preprocessing]\ndoff = 6",
            "preprocessing.doff: no such parameter (did you mean 'dof'?)",
        ),
        ("[preprocessing]\ndof = 5", "preprocessing.dof: found 5, expected one of"),
        ("preprocessing = 1", "preprocessing: found 1, expected parameters by name"),
        ("nprocs = = 3", "Invalid value"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path, text, message):
    file = tmp_path / "settings.toml"
    file.write_text(text)
    assert message in refuse("--config-file", file)
    assert "settings.toml" in refuse("--config-file", file)


def test_a_missing_file_is_named(tmp_path):
    gone = tmp_path / "gone.toml"
    assert str(gone) in refuse("--config-file", gone, code=Exit.MISSING_FILE)
    assert str(gone) in refuse("--use-plugin", gone, code=Exit.MISSING_FILE)


def test_the_resolved_settings_can_be_read_back(tmp_path):
    config = parse("--preprocessing-dof", "6", "-d", f"x={tmp_path}", "--nprocs", "3", "-v")
    file = tmp_path / "resolved.toml"
    file.write_text(config.to_toml())
    again = cli.parse([*PREFIX, "--config-file", str(file)], {})
    assert again.to_toml() == config.to_toml()
    resolved = tomllib.loads(file.read_text())
    assert resolved["preprocessing"]["dof"] == 6
    assert resolved["preprocessing"].keys() == specs.load("preprocessing").params.keys()


def test_a_plugin_file_gives_the_plugin_and_its_arguments(tmp_path):
    file = tmp_path / "plugin.yml"
    file.write_text("plugin: SLURM\nplugin_args: {sbatch_args: --mem=4G}\n")
    for flag in ("--use-plugin", "--nipype-plugin-file"):
        config = parse(flag, file, "-w", tmp_path / "work")
        assert (config.plugin, config.plugin_args) == ("SLURM", {"sbatch_args": "--mem=4G"})
    file.write_text("n_procs: 3\n")
    assert "expected 'plugin: NAME'" in refuse("--use-plugin", file)


def test_every_parameter_of_every_stage_is_an_option():
    text = cli.build_parser().format_help()
    for stage in specs.names():
        for name, param in specs.load(stage).params.items():
            assert f"--{stage}-{name.replace('_', '-')}" in text
            assert param.help.split()[0] in text


def test_describe_tells_of_a_stage(capsys):
    assert main(["describe", "preprocessing"]) == 0
    text = capsys.readouterr().out
    for step in specs.load("preprocessing").steps:
        assert f"preprocessing.{step}" in text
    assert main(["describe"]) == 0
    assert main(["describe", "nothing"]) == Exit.USAGE


def test_wrong_usage_ends_with_64_and_a_sentence(capsys):
    assert main(["in", "out"]) == Exit.USAGE
    assert "the following arguments are required" in capsys.readouterr().err


def test_help_and_version_work_without_heavy_imports():
    import subprocess
    import sys

    code = (
        "import sys; from bids_app.app import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "import json; print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert not modules & {"torch", "nipype", "bids", "nilearn", "numpy", "nibabel", "pandas"}


def test_the_first_screen_suffices_and_leaves_stages_to_their_own(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = print_help(capsys, "--help")
    lines = text.splitlines()
    assert len(lines) <= 66
    assert max(map(len, lines)) <= 80
    first = "\n".join(lines[:24])  # what a small terminal shows
    for told in ("usage: brainstages BIDS_DIR OUT_DIR", "--dry-run", "--help STAGE", "describe"):
        assert told in first
    for stage in specs.names():
        assert stage in first
        assert f"--{stage}-" not in text
    general = {a.option_strings[0] for a in general_options()}
    for flag in general:
        assert flag.removeprefix("--no-").removeprefix("--") in text


def print_help(capsys, *words):
    """Ask for help; return what is printed."""
    with pytest.raises(SystemExit) as left:
        main([*words])
    assert not left.value.code
    return capsys.readouterr().out


def general_options():
    """List the options that all stages share."""
    actions = cli.build_parser()._actions
    return [a for a in actions if a.option_strings and "." not in a.dest and a.dest != "help"]


@pytest.mark.parametrize("stage", specs.names())
def test_help_on_a_stage_has_its_options_and_no_other(stage, capsys):
    text = print_help(capsys, "--help", stage)
    for name, param in specs.load(stage).params.items():
        assert name.replace("_", "-") in text
        assert param.help.split()[0] in text
    assert f"brainstages describe {stage}" in text
    for other in set(specs.names()) - {stage}:
        assert f"--{other}-" not in text
    assert "--nprocs" not in text


def test_help_on_all_has_every_spelling(capsys):
    text = print_help(capsys, "-h", "all")
    for action in cli.build_parser()._actions:
        for flag in action.option_strings:
            assert flag in text


def test_help_on_nothing_known_suggests(capsys):
    assert main(["--help", "clasifier"]) == Exit.USAGE
    assert "did you mean 'classifier'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--particpant-label", "01"], "did you mean '--participant-label'"),
        (["--clasifier-epochs", "1"], "did you mean '--classifier-epochs'"),
        (["--classifier-epochs", "x"], "see brainstages --help classifier"),
        (["--mem", "lots"], "see brainstages --help"),
    ],
)
def test_a_wrong_option_is_told_with_the_right_one_and_where_help_is(arguments, message):
    said = refuse(*arguments)
    assert message in said
    assert "\n" not in said


def test_demo_draws_its_dataset_once_and_hands_the_options_on(tmp_path, monkeypatch):
    drawn = []

    def draw(folder):
        drawn.append(folder)
        for name in ("truth", "preprocessed"):
            (folder / "derivatives" / name).mkdir(parents=True)

    monkeypatch.setattr("bids_app.demo.dataset.write_dataset", draw)
    (tmp_path / "bids.part").mkdir()  # of a demo that was cut off
    for _ in range(2):
        words = demo_run.make_arguments([str(tmp_path), "--preset", "demo", "--nprocs", "3"])
    assert drawn == [tmp_path / "bids.part"]
    config = cli.parse(words, {})
    assert (config.bids_dir, config.out_dir) == (tmp_path / "bids", tmp_path / "derivatives")
    assert (config.preset, config.nprocs, config.levels) == ("demo", 3, ("participant", "group"))
    assert set(config.derivatives) == {"landmarks", "lesions", "fmriprep"}
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("words", [["demo"], ["demo", "--nprocs", "2"]])
def test_demo_wants_a_folder(words, capsys):
    assert main(words) == Exit.USAGE
    assert "usage: brainstages demo DIR" in capsys.readouterr().err


def test_demo_names_the_extra_that_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "bids_app.demo.dataset", None)
    assert main(["demo", str(tmp_path)]) == Exit.MISSING_FILE
    assert "pip install 'brainstages[demo]'" in capsys.readouterr().err
