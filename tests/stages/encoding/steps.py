"""Calling a step as a job does: defaults from the spec, every input and output by name."""

import importlib
from pathlib import Path

import specs
from specs.schema import Output
from tests.stages.calls import make_arguments

SPEC = specs.load("encoding")


def call(
    step: str, folder: Path, *, stem: str = "sub-01", seed: int = 0, **given
) -> dict[str, Path]:
    """Run a step with given inputs and parameters into ``folder``; return the outputs by name.

    Inputs that are not given are absent, parameters have their default.
    """
    described = SPEC.steps[step]
    inputs, params = make_arguments(described, given)
    outputs = {}
    for name, output in described.outputs.items():
        outputs[name] = folder / name / _file_name(output, stem, params)
        outputs[name].parent.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"stages.encoding.{step}")
    paths = {name: str(path) for name, path in outputs.items()}
    module.run(**inputs, **paths, **params, seed=seed)
    return outputs


def _file_name(output: Output, stem: str, params: dict) -> str:
    if output.path:
        return Path(output.path.format(**params)).name
    desc = output.bids["desc"]
    return f"{stem}_desc-{desc}_{output.bids['suffix']}{output.bids['extension']}"
