"""The examples run as the gallery's page says, and find what they planted."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> ModuleType:
    """Import an example by its name."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_bias_field_goes():
    before, after = load("bias_field").main()
    assert after < before / 2


def test_site_goes_and_age_stays():
    found = load("site_effects").main()
    assert abs(found["shift_after"]) < abs(found["shift_before"]) / 10
    # The second site's slopes are 1.2 times as large, and the mean of both is kept.
    assert found["slope_after"] == pytest.approx(-2.2, abs=0.15)


def test_driven_voxels_are_predicted_and_others_are_not():
    driven, null = load("encoding_ridge").main()
    assert driven > 0.5
    assert abs(null) < 0.1


def test_a_portable_model_needs_nothing_of_ours_and_is_refused_when_damaged():
    difference, refusal = load("portable_model").main()
    assert difference == 0
    assert "model.onnx" in refusal


def test_strong_features_need_few_learners():
    found = load("few_strong_features").main()
    assert found["few strong"][1] > 0.9
    assert found["many weak"][-1] > found["many weak"][0] + 0.1
    assert found["few strong"][1] > found["many weak"][1]


def test_the_gallerys_page_lists_every_example():
    page = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"`{path.name}`" in page
        assert f"python examples/{path.name}" in page
