"""What tests of all stages share: a step's arguments from its spec, and the app as users run it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from specs.schema import Step
from tests.conftest import REPOSITORY


def make_arguments(step: Step, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make a step's inputs and parameters of what is given.

    Inputs that are not given are absent, parameters have their default.
    """
    unknown = given.keys() - {*step.inputs, *step.params}
    assert not unknown, f"not of the step: {unknown}"
    inputs = {}
    for name, item in step.inputs.items():
        value = given.get(name, [] if item.many and item.source != "option" else None)
        inputs[name] = [str(v) for v in value] if isinstance(value, list) else value and str(value)
    params = {name: given.get(name, param.default) for name, param in step.params.items()}
    return inputs, params


def brainstages(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run this checkout's command line."""
    return subprocess.run(
        [sys.executable, "-m", "bids_app", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=560,
    )
