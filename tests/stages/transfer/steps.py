"""Calling a step as a job does: defaults from the spec, every input and output by name."""

import importlib
from pathlib import Path

import specs
from tests.stages.calls import make_arguments

SPEC = specs.load("transfer")


def call(step: str, folder: Path, *, sub: str = "01", seed: int = 0, **given) -> dict[str, Path]:
    """Run a step with given inputs and parameters into ``folder``; return the outputs by name.

    Inputs that are not given are absent, parameters have their default. Files with a template are
    named as in the dataset, since steps read the source from a model's folder.
    """
    described = SPEC.steps[step]
    inputs, params = make_arguments(described, given)
    outputs = {}
    for name, output in described.outputs.items():
        if output.path:
            path = folder / output.path.format(**params, sub=sub)
        else:
            bids = {key: value.format(**params) for key, value in output.bids.items()}
            kind = "_".join(f"{k}-{bids[k]}" for k in ("label", "stat", "desc") if k in bids)
            path = folder / f"sub-{sub}_{kind}_{bids['suffix']}{bids['extension']}"
        path.parent.mkdir(parents=True, exist_ok=True)
        outputs[name] = path
    module = importlib.import_module(f"stages.transfer.{step}")
    paths = {name: str(path) for name, path in outputs.items()}
    module.run(**inputs, **paths, **params, seed=seed)
    return outputs
