"""The description format: what is accepted, and that each mistake is named."""

from pathlib import Path

import pytest
import yaml

import specs
from specs.schema import Param, parse_spec

FILE = Path("toy.yaml")
TOY = """
name: toy
version: "1"
summary: A toy.
image: toy
presets: {tiny: {size: 2}}
steps:
  make:
    summary: Makes.
    level: participant
    over: [sub, flavour]
    inputs:
      image: {from: raw, query: {suffix: T1w, ses: null}, help: An image.}
    outputs:
      copy: {bids: {datatype: anat, desc: copy, suffix: T1w, extension: .nii.gz}}
      model: {path: "models/{flavour}.json", optional: true}
    params:
      size: {type: int, default: 3, min: 1, max: 9, unit: mm, help: How big.}
      flavour: {type: str, many: true, default: [a], choices: [a, b], help: Which.}
    resources: {cpus: 2, memory_gb: 1.5}
"""


def parse(**changes):
    """Parse the toy with values replaced at dotted keys (None removes the key)."""
    data = yaml.safe_load(TOY)
    for place, value in changes.items():
        *parents, last = place.split("__")
        target = data
        for parent in parents:
            target = target[parent]
        if value is None:
            del target[last]
        else:
            target[last] = value
    return parse_spec(data, file=FILE)


def test_a_description_becomes_a_spec():
    spec = parse()
    step = spec.steps["make"]
    assert step.signature == ("image", "copy", "model", "size", "flavour", "seed")
    assert step.entities_over == ("sub",)
    assert step.inputs["image"].query == {"suffix": "T1w", "ses": None}
    assert spec.params["size"].default == 3
    assert (step.resources.cpus, step.resources.memory_gb, step.resources.gpus) == (2, 1.5, 0)
    assert spec.presets == {"tiny": {"size": 2}}


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("name", None, r"toy.yaml: name: found nothing, expected a value"),
        ("colour", "red", r"colour: found 'colour', expected one of .*image"),
        ("verison", "1", r"did you mean 'version'"),
        ("steps__make__level", "subject", r"steps.make.level: found 'subject', expected one of"),
        ("steps__make__over", ["sub", "flavor"], r"'flavor', expected .*did you mean 'flavour'"),
        ("steps__make__over", "sub", r"steps.make.over: found 'sub', expected a list of words"),
        ("steps__make__inputs__image__query", {"subject": "1"}, r"query: found 'subject'"),
        ("steps__make__inputs__image__query", {}, r"at least one entity"),
        ("steps__make__inputs__image__many", "yes", r"found 'yes', expected true or false"),
        ("steps__make__outputs__copy", {}, r"exactly one of bids, path, table"),
        ("steps__make__outputs__copy__path", "x", r"exactly one of bids, path, table"),
        ("steps__make__outputs__model__path", "../x", r"a path inside the stage's dataset"),
        ("steps__make__outputs__copy__bids", {"suffix": "T1w"}, r"bids.extension: found nothing"),
        ("steps__make__params__size__type", "integer", r"'integer', expected one of.*'int'"),
        (
            "steps__make__params__size__default",
            10,
            r"size.default: found 10 mm, expected at most 9",
        ),
        ("steps__make__params__size__default", "3", r"found '3' \(str\), expected int"),
        ("steps__make__params__size__help", None, r"size.help: found nothing"),
        ("steps__make__params__flavour__default", "a", r"flavour.default: found 'a', .*a list"),
        ("steps__make__params__image", {"type": "int", "default": 1, "help": "x"}, r"different"),
        (
            "steps__make__resources__cpus",
            0,
            r"resources.cpus: found 0, expected a whole number ≥ 1",
        ),
        ("presets__tiny__sise", 1, r"presets.tiny.sise: .*did you mean 'size'"),
        ("presets__tiny__size", 99, r"presets.tiny.size: found 99 mm, expected at most 9"),
        ("steps", [], r"steps: found \[\], expected a mapping"),
    ],
)
def test_each_mistake_is_named_with_its_place(place, value, message):
    with pytest.raises(ValueError, match=message):
        parse(**{place: value})


def test_steps_that_share_an_option_must_declare_it_alike():
    data = yaml.safe_load(TOY)
    data["steps"]["again"] = yaml.safe_load(TOY)["steps"]["make"]
    parse_spec(data, file=FILE)
    data["steps"]["again"]["params"]["size"]["default"] = 4
    with pytest.raises(ValueError, match="answer to the same option"):
        parse_spec(data, file=FILE)


def test_a_syntax_error_names_the_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: x\nsteps: [\n")
    with pytest.raises(ValueError, match=r"bad.yaml: line 3"):
        specs.read_yaml(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="UTF-8"):
        specs.read_yaml(path)


def test_yaml_makes_no_python_objects(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("!!python/object/apply:os.system ['true']\n")
    with pytest.raises(ValueError, match="could not determine a constructor"):
        specs.read_yaml(path)


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [("float", 2, 2.0), ("int", 2, 2), ("str", "x", "x"), ("bool", True, True)],
)
def test_values_come_back_in_the_parameters_type(kind, value, result):
    checked = Param("p", kind, value, "help").check(value, where="here")
    assert checked == result
    assert type(checked) is type(result)


@pytest.mark.parametrize(("kind", "value"), [("int", True), ("int", 2.5), ("bool", 1), ("str", 1)])
def test_values_of_another_type_are_refused(kind, value):
    with pytest.raises(ValueError, match=f"here: found .*, expected {kind}"):
        Param("p", kind, value, "help").check(value, where="here")


def test_nan_is_outside_every_range():
    with pytest.raises(ValueError, match="at least 0"):
        Param("p", "float", 1.0, "help", min=0).check(float("nan"), where="here")


def test_an_unknown_stage_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'preprocessing'"):
        specs.load("preprocesing")


def test_stages_are_listed_in_the_order_of_the_data():
    names = specs.names()
    for position, name in enumerate(names):
        before = {*names[: position + 1]}
        assert specs.load(name).sources & set(names) <= before
