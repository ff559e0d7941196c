"""Maps and regions against SciPy, statsmodels and plain loops."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from stages.translation import maps, regions
from stages.translation.grids import Axis, Grid
from tests.stages.translation import steps

RNG = np.random.default_rng(0)
GRID = Grid((Axis(20, -76, 8), Axis(24, -100, 8), Axis(20, -70, 8)), "axial", 8.0)


def test_t_is_scipys():
    a, b = RNG.normal(size=(7, 3, 4)), RNG.normal(0.5, 2, size=(9, 3, 4))
    t, p = maps.t_map(a, b)
    expected = stats.ttest_ind(a, b)
    assert np.allclose(t, expected.statistic) and np.allclose(p, expected.pvalue)


def test_voxels_without_variance_are_no_finding():
    t, p = maps.t_map(np.ones((4, 2)), np.ones((5, 2)))
    assert not t.any() and (p == 1).all()


def test_fdr_is_statsmodels_and_passes_over_nothing():
    p = RNG.uniform(size=20) ** 2
    assert np.allclose(maps.fdr(p), multipletests(p, method="fdr_bh")[1])
    q = maps.fdr(np.array([0.01, np.nan, 0.04]))
    assert np.isnan(q[1]) and q[0] == pytest.approx(0.02)


def test_agreement_of_maps():
    a = RNG.normal(size=(10, 10))
    mask = np.ones((10, 10), bool)
    assert maps.correlate(a, 3 * a + 1, mask) == pytest.approx(1)
    b = RNG.normal(size=(10, 10))
    assert maps.correlate(a, b, mask) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert maps.overlap_peaks(a, a, mask) == 1
    assert maps.overlap_peaks(a, -a, mask) == 0


def test_a_common_effect_correlates_above_zero():
    effect = np.zeros((1, 8, 8))
    effect[0, 2:5, 2:5] = 1
    x, y = RNG.normal(size=(15, 1, 8, 8)), RNG.normal(size=(12, 1, 8, 8)) + 2 * effect
    change = 2 * effect + RNG.normal(0, 0.3, (15, 1, 8, 8))
    everywhere = np.ones((1, 8, 8), bool)
    low, high = maps.bootstrap_correlation(change, y, x, everywhere, draws=50, seed=0)
    assert 0.3 < low < high <= 1


def test_the_interval_is_around_the_correlation_where_effects_are_small():
    # Percentiles of redraws lie below it altogether.
    effect = np.zeros((1, 20, 20))
    effect[0, :8] = 0.5
    x, y = RNG.normal(size=(20, 1, 20, 20)), RNG.normal(size=(20, 1, 20, 20)) + effect
    change = np.broadcast_to(effect, x.shape) + RNG.normal(0, 0.01, x.shape)
    everywhere = np.ones((1, 20, 20), bool)
    low, high = maps.bootstrap_correlation(change, y, x, everywhere, draws=200, seed=0)
    r = maps.correlate(change.mean(0), maps.t_map(y, x)[0], everywhere)
    assert low < r < high
    assert np.tanh(np.arctanh([low, high]).mean()) == pytest.approx(r)


def test_intervals_are_students():
    values = np.array([1.0, 2, 4, np.nan])
    mean, low, high, n = maps.mean_interval(values)
    expected = stats.ttest_1samp(values[:3], 0).confidence_interval()
    assert (mean, n) == (pytest.approx(7 / 3), 3)
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_regions_lie_where_they_should():
    masks = regions.box_masks(GRID)
    assert list(masks) == list(regions.BOXES) and len(masks) == 8
    x, y, z = np.meshgrid(*(a.centres for a in GRID.axes), indexing="ij")
    for name, mask in masks.items():
        inside = np.moveaxis(mask[:, 0], 0, 2)
        assert inside.sum() > 5, name
        assert x[inside].mean() == pytest.approx(0, abs=4), name
    where = {n: np.moveaxis(m[:, 0], 0, 2) for n, m in masks.items()}
    assert (
        z[where["cerebellum"]].max() < -15 and y[where["prefrontal association cortex"]].min() > 20
    )
    assert y[where["parietal lobe"]].mean() < y[where["primary motor cortex"]].mean()


def test_a_planted_change_is_found_in_its_region_alone():
    masks = regions.box_masks(GRID)
    tissue = np.ones((20, 1, 20, 24), bool)
    planted = masks["cerebellum"]
    noise = RNG.normal(0, 0.01, (8, *tissue.shape))
    change = noise - 0.1 * planted
    x = RNG.normal(0.5, 0.01, (8, *tissue.shape))
    y = RNG.normal(0.5, 0.01, (9, *tissue.shape)) - 0.1 * planted
    rows = {row["region"]: row for row in regions.compare(masks, tissue, change, y, x)}
    row = rows["cerebellum"]
    assert row["mean_change"] == pytest.approx(-0.1, abs=0.005) and row["q"] < 1e-6
    assert row["same_sign"] == "yes" and row["real_q"] < 1e-6
    assert abs(rows["frontal eye field"]["mean_change"]) < 0.01


def test_an_atlas_replaces_the_boxes(tmp_path):
    labels = np.zeros(steps.SHAPE)
    labels[10:, :, 10:] = 7
    path = steps.write_image(tmp_path / "atlas.nii.gz", labels)
    with pytest.raises(FileNotFoundError, match=r"atlas\.tsv: no such file"):
        regions.atlas_masks(path, GRID)
    table = tmp_path / "atlas.tsv"
    table.write_text("index\tname\n7\tupper right\n")
    (mask,) = regions.atlas_masks(path, GRID).values()
    assert np.array_equal(np.moveaxis(mask[:, 0], 0, 2), labels > 0)
    table.write_text("index\tname\n8\tnowhere\n")
    with pytest.raises(ValueError, match="none of its labels"):
        regions.atlas_masks(path, GRID)
    table.write_text("number\tname\n7\tx\n")
    with pytest.raises(ValueError, match="found columns number, name, expected index and name"):
        regions.atlas_masks(path, GRID)
