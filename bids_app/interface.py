"""The one Nipype interface: a batch of jobs as a node."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterface,
    BaseInterfaceInputSpec,
    DynamicTraitedSpec,
    TraitedSpec,
    traits,
)

from bids_app.execute import Context, execute
from specs.job import Job


class _StageInput(DynamicTraitedSpec, BaseInterfaceInputSpec):
    # Jobs are checked against their spec when they are planned; here they are cargo. Paths inside
    # are plain text on purpose: Nipype would hash files and call every re-run outdated.
    jobs = traits.List(traits.Dict, mandatory=True, desc="jobs of one step")
    needs = traits.Dict(desc="job → jobs whose outputs it reads → by which input")
    context = traits.Dict(mandatory=True, desc="what all batches of the run share")
    threads = traits.Int(1, usedefault=True, desc="threads of numerical libraries")


class _StageOutput(TraitedSpec):
    states = traits.Dict(desc="job → how it ended")


class Stage(BaseInterface):
    """Run a batch of jobs of one step; see ``bids_app.execute``."""

    input_spec = _StageInput
    output_spec = _StageOutput

    # What is done is told from content before the workflow is built, never by Nipype's cache.
    always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        self._states = execute(
            [Job(**job) for job in self.inputs.jobs],
            self.inputs.needs,
            Path(runtime.cwd),
            Context(**self.inputs.context),
            threads=self.inputs.threads,
        )
        return runtime

    def _list_outputs(self) -> dict[str, Any]:
        return {"states": self._states}


def stage_interface(
    jobs: Sequence[Job],
    needs: Mapping[str, Mapping[str, str]],
    context: Context,
    *,
    threads: int,
    waits_for: int,
) -> Stage:
    """Make the interface of one batch, with inputs ``after0`` … for the nodes it waits for."""
    interface = Stage(
        jobs=[asdict(job) for job in jobs],
        needs=dict(needs),
        context=asdict(context),
        threads=threads,
    )
    for number in range(waits_for):
        interface.inputs.add_trait(f"after{number}", traits.Any)
    return interface
