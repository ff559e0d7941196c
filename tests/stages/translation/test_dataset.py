"""Slices without anything to see are left out; a domain of nothing else is refused."""

import numpy as np
import pytest

from stages.translation.dataset import pool_slices


def test_constant_slices_are_left_out_and_told(caplog):
    images = np.random.default_rng(0).normal(size=(3, 2, 1, 4, 4)).astype(np.float32)
    images[1, 0] = -1
    samples = pool_slices(images, name="Old")
    assert len(samples.images) == 5
    assert samples.places.tolist() == [0, 1, 1, 0, 1]
    assert "domain Old: 1 constant slices left out" in caplog.text


def test_a_domain_of_constant_slices_is_refused():
    with pytest.raises(ValueError, match=r"domain Old: every slice is constant; choose other"):
        pool_slices(np.full((3, 2, 1, 4, 4), -1, np.float32), name="Old")
