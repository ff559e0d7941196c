"""One phantom head with known truth, made once, and what the stage makes of it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from bids_app.demo.phantom import Phantom, make_phantom
from stages.preprocessing import bias, registration, template, tissue


class Chain(NamedTuple):
    """A phantom and the results of the pure functions, one after the other."""

    truth: Phantom
    field: np.ndarray
    corrected: np.ndarray
    matrix: np.ndarray
    tissues: tissue.Tissues


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """A 2 mm head."""
    return make_phantom(11, age_y=40.0, sex="F", resolution_mm=2.0)


@pytest.fixture(scope="session")
def chain(phantom: Phantom) -> Chain:
    """The phantom, corrected, aligned and segmented with its true brain mask."""
    target = template.load()
    field = bias.estimate_field(phantom.t1w, phantom.affine, phantom.brain)
    corrected = phantom.t1w / field
    matrix = registration.align(
        corrected * phantom.brain, phantom.affine, target.t1w, target.affine, dof=(12,)
    )[12].matrix
    priors = tissue.bring_priors(
        target.priors, target.affine, matrix, corrected.shape, phantom.affine
    )
    tissues = tissue.segment(corrected, phantom.affine, phantom.brain, priors)
    return Chain(phantom, field, corrected, matrix, tissues)


@pytest.fixture(scope="session")
def rotation() -> Callable[..., np.ndarray]:
    """Build a rigid world matrix from angles about x, y and z in degrees and a shift in mm."""
    from scipy.spatial.transform import Rotation

    def build(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        matrix[:3, 3] = shift
        return matrix

    return build
