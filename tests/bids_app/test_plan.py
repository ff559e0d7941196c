"""Plans: made from records alone, complete before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from bids_app.config import Config
from bids_app.layout import BidsFile
from bids_app.plan import has_inputs, make_plan, matches
from specs.entities import build_path, parse_path
from specs.reading import read_yaml
from specs.schema import parse_spec

TOY = Path(__file__).parents[1] / "toy" / "specs"
ALPHA, BETA = (parse_spec(read_yaml(TOY / f"{n}.yaml"), file=TOY) for n in ("alpha", "beta"))
ROOTS = {"raw": Path("/raw"), "alpha": Path("/out/brainstages-alpha"), "beta": Path("/out/b")}


def t1w(**entities):
    """Record a raw T1w image."""
    parts = {**entities, "datatype": "anat", "suffix": "T1w", "extension": ".nii.gz"}
    return BidsFile("raw", f"/raw/{build_path(parts)}", parts)


def config(levels=("participant", "group"), **options):
    """Make settings that need no disk."""
    paths = {name: Path("/x") for name in ("bids_dir", "out_dir", "work_dir")}
    return Config(**paths, levels=levels, **options)


def plan(files, *, stages=(ALPHA, BETA), participants=(), filters=None, **options):
    """Plan the toy stages."""
    return make_plan(
        list(stages),
        files,
        config(**options),
        roots=ROOTS,
        participants=participants,
        filters=filters,
    )


def test_steps_are_chained_by_the_files_they_write():
    made = plan([t1w(sub="01"), t1w(sub="02")])
    assert not made.problems
    assert [job.id for job in made.jobs] == [
        "alpha.add.sub-01",
        "alpha.add.sub-02",
        "alpha.double.sub-01",
        "alpha.double.sub-02",
        "beta.average.method-mean",
        "beta.average.method-median",
        "beta.choose.sub-01_tag-a",
        "beta.choose.sub-02_tag-a",
        "beta.follow.sub-01_tag-a",
        "beta.follow.sub-02_tag-a",
    ]
    add, _, double, _, _, average = made.jobs[:6]
    assert double.inputs["total"] == add.outputs["total"]
    assert add.outputs["total"] == (
        "/out/brainstages-alpha/sub-01/anat/sub-01_desc-added_T1w.nii.gz"
    )
    assert average.inputs["images"] == [job.outputs["doubled"] for job in made.jobs[2:4]]
    assert average.outputs["value"] == "/out/b/models/median/value.json"
    assert average.params == {"method": "median"}


def test_sessions_and_runs_are_jobs_of_their_own():
    files = [t1w(sub="01", ses=s, run=r) for s in ("a", "b") for r in ("1", "2")]
    made = plan(files, stages=[ALPHA], levels=("participant",))
    assert len(made.jobs) == 8
    assert (
        made.jobs[1]
        .outputs["total"]
        .endswith("sub-01/ses-a/anat/sub-01_ses-a_run-2_desc-added_T1w.nii.gz")
    )
    assert made.jobs[1].outputs["scans"].endswith("sub-01/ses-a/sub-01_ses-a_scans.tsv")


def test_levels_choose_steps():
    files = [t1w(sub="01")]
    assert {j.step for j in plan(files, levels=("participant",)).jobs} == {
        "add",
        "double",
        "choose",
        "follow",
    }
    alone = plan(files, levels=("group",))
    assert not alone.jobs
    assert "beta.average: no file matches 'images'" in alone.problems[0].message
    assert "run stage alpha first" in alone.problems[0].message
    late = make_plan([BETA], [], config(levels=("participant",)), roots=ROOTS, participants=["01"])
    assert "run stage alpha first" in late.problems[0].message
    parts = {"sub": "01", "datatype": "anat", "desc": "doubled", "suffix": "T1w"}
    done = BidsFile("alpha", "/out/brainstages-alpha/x", {**parts, "extension": ".nii.gz"})
    assert len(plan([done], levels=("group",)).jobs) == 2


def test_two_candidates_are_an_early_error_and_the_others_go_on():
    files = [t1w(sub="01"), t1w(sub="02", acq="a"), t1w(sub="02", acq="b")]
    made = plan(files, participants=["01", "02"], levels=("participant",))
    assert {job.participant for job in made.jobs} == {"01"}
    (problem,) = made.problems
    assert problem.participant == "02"
    assert "alpha.add sub-02: 2 files match 'image', one expected" in problem.message
    assert "--bids-filter-file" in problem.message


def test_a_filter_chooses_among_candidates():
    files = [t1w(sub="02", acq="a"), t1w(sub="02", acq="b")]
    for filters in ({"t1w": {"acq": "b"}}, {"image": {"acq": ["b", "c"]}}):
        made = plan(files, levels=("participant",), filters=filters)
        assert made.jobs[0].inputs["image"] == files[1].path


def test_a_selected_participant_without_files_is_a_problem_named_once():
    made = plan([t1w(sub="01")], participants=["01", "02"], levels=("participant",))
    (problem,) = made.problems
    assert "alpha.add sub-02: no file matches 'image'" in problem.message


def test_who_lacks_one_stages_data_is_a_problem_only_if_that_stage_was_asked_for():
    """Not everybody who was scanned saw the movie too."""
    add = ALPHA.steps["add"]
    inputs = {
        key: replace(i, query={**i.query, "suffix": "bold", "datatype": "func"})
        if i.source == "raw"
        else i
        for key, i in add.inputs.items()
    }
    movie = replace(ALPHA, name="movie", steps={"add": replace(add, inputs=inputs)})
    bold = {"sub": "02", "datatype": "func", "suffix": "bold", "extension": ".nii.gz"}
    files = [t1w(sub="01"), t1w(sub="02"), BidsFile("raw", f"/raw/{build_path(bold)}", bold)]
    roots = ROOTS | {"movie": Path("/out/m")}

    def problems(**options):
        made = make_plan([movie, ALPHA], files, config(levels=("participant",), **options),
                         roots=roots, participants=("01", "02"), filters=None)  # fmt: skip
        assert "movie.add.sub-02" in [job.id for job in made.jobs]
        return [problem.message for problem in made.problems]

    assert problems() == []
    (message,) = problems(stages=("movie", "alpha"))
    assert message.startswith("movie.add sub-01: no file matches")


def test_options_given_by_path_reach_the_job():
    files = [t1w(sub="01")]
    assert plan(files).jobs[0].inputs["offset"] is None
    assert plan(files, weights={"offset": Path("/w.txt")}).jobs[0].inputs["offset"] == "/w.txt"


def test_parameters_and_seed_reach_the_job():
    made = plan([t1w(sub="01")], params={"alpha": {"addend": 4.0}}, random_seed=9)
    assert made.jobs[0].params == {"addend": 4.0, "behaviour": "work"}
    assert made.jobs[0].seed == 9


def test_planning_is_independent_of_the_order_of_files():
    files = [t1w(sub=s, run=r) for s in ("01", "02", "10") for r in ("1", "2")]
    assert plan(files).jobs == plan(list(reversed(files))).jobs


def test_stages_without_inputs_are_told_apart():
    both = ("participant", "group")
    assert has_inputs(ALPHA, [t1w(sub="01")], [], both)
    assert not has_inputs(ALPHA, [], [], both)
    assert has_inputs(BETA, [], ["alpha"], both)
    assert not has_inputs(BETA, [t1w(sub="01")], [], both)


def test_a_stage_that_waits_for_its_own_group_step_is_not_chosen_yet():
    text = read_yaml(TOY / "beta.yaml")
    text["steps"]["choose"]["inputs"]["value"] = {
        "from": "beta",
        "query": {"suffix": "value", "extension": ".json"},
        "many": True,
        "help": "What the group step found.",
    }
    spec = parse_spec(text, file=TOY)
    assert has_inputs(spec, [], ["alpha"], ("participant", "group"))
    assert not has_inputs(spec, [], ["alpha"], ("participant",))
    done = BidsFile("beta", "/out/b/models/mean/value.json", parse_path("models/mean/value.json"))
    assert has_inputs(spec, [done], ["alpha"], ("participant",))


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ({"run": "1"}, True),
        ({"run": 1}, True),
        ({"run": ["2", 1]}, True),
        ({"run": "*"}, True),
        ({"run": None}, False),
        ({"ses": None}, True),
        ({"ses": "*"}, False),
        ({"ses": "a"}, False),
        ({"run": "!2"}, True),
        ({"run": "!1"}, False),
        ({"ses": "!a"}, True),
    ],
)
def test_queries(query, answer):
    assert matches({"sub": "01", "run": "1"}, query) is answer


def test_entities_in_a_folders_name_are_read_back():
    text = read_yaml(TOY / "beta.yaml")
    text["steps"]["use"] = {
        "summary": "Uses.",
        "level": "group",
        "over": ["method"],
        "inputs": {"value": {"from": "beta", "query": {"suffix": "value"}, "help": "One value."}},
        "outputs": {"copy": {"path": "models/{method}/copy.json"}},
        "params": text["steps"]["average"]["params"],
    }
    spec = parse_spec(text, file=TOY)
    files = [
        BidsFile("beta", f"/out/b/models/{m}/value.json", {"suffix": "value", "extension": ".json"})
        for m in ("mean", "median")
    ]
    made = make_plan([spec], files, config(levels=("group",)), roots=ROOTS)
    use = [job for job in made.jobs if job.step == "use"]
    assert [job.inputs["value"] for job in use] == [file.path for file in files]
