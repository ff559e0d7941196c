"""Every cell equals scikit-learn's Ridge; both forms agree; limits are as theory has them."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge

from stages.encoding import gram
from stages.encoding.gram import factorise
from stages.encoding.ridge import centre, correlate, make_operator, predict

PENALTIES = [0.5, 1.0, 5.0, 10.0, 1e2, 1e3, 1e4, 2.5e4, 5e4, 1e5, 1e6, 1e7]
SHAPES = {"primal": (120, 40), "dual": (60, 150)}


@pytest.fixture(params=SHAPES, scope="module")
def data(request):
    n, p = SHAPES[request.param]
    rng = np.random.default_rng(1)
    X, T = (np.maximum(rng.standard_normal((rows, p)) + 0.5, 0) for rows in (n, 30))
    weights = rng.standard_normal((p, 25))
    Y = X @ weights + 5 * rng.standard_normal((n, 25)) + 100
    Z = T @ weights + 5 * rng.standard_normal((30, 25)) + 100
    return X, T, Y, Z


def operator_of(X, T, dtype=torch.float64, blocks=None, penalties=PENALTIES, voxels=10**6):
    blocks = np.zeros(len(T), dtype=int) if blocks is None else blocks
    return make_operator(
        factorise(torch.from_numpy(X)),
        torch.from_numpy(T),
        penalties,
        voxels=voxels,
        dtype=dtype,
        blocks=blocks,
    )


def sklearn_r(X, T, Y, Z, penalty):
    predicted = Ridge(alpha=penalty).fit(X, Y).predict(T)
    return np.array([np.corrcoef(predicted[:, i], Z[:, i])[0, 1] for i in range(Y.shape[1])])


@pytest.mark.parametrize("voxels", [25, 10**6], ids=["two-step", "direct"])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_all_cells_equal_scikit_learn(data, dtype, rtol, voxels):
    X, T, Y, Z = data
    kind = np.float64 if dtype == torch.float64 else np.float32
    r = correlate(operator_of(X, T, dtype, voxels=voxels), Y.astype(kind), Z.astype(kind))
    expected = np.stack([sklearn_r(X, T, Y, Z, penalty) for penalty in PENALTIES])
    np.testing.assert_allclose(r, expected, rtol=rtol, atol=rtol)


def test_predictions_equal_scikit_learn_at_each_voxels_penalty(data):
    X, T, Y, _ = data
    chosen = np.arange(25) % len(PENALTIES)
    operator = make_operator(
        factorise(torch.from_numpy(X)),
        torch.from_numpy(T),
        PENALTIES,
        voxels=25,
        dtype=torch.float64,
    )
    predicted = predict(operator, Y, chosen) + Y.mean(0)
    for voxel, index in enumerate(chosen):
        model = Ridge(alpha=PENALTIES[index]).fit(X, Y[:, voxel])
        np.testing.assert_allclose(predicted[:, voxel], model.predict(T), rtol=1e-6)


def test_primal_equals_dual():
    """Columns of zeros turn the same problem into one with more features than samples."""
    rng = np.random.default_rng(2)
    X, T, Y = (rng.standard_normal(shape) for shape in ((50, 30), (20, 30), (50, 7)))
    wide = [np.hstack([array, np.zeros((len(array), 40))]) for array in (X, T)]
    assert not factorise(torch.from_numpy(X)).is_dual
    assert factorise(torch.from_numpy(wide[0])).is_dual
    chosen = np.full(7, 3)
    primal, dual = (predict(operator_of(*pair), Y, chosen) for pair in ((X, T), wide))
    np.testing.assert_allclose(primal, dual, rtol=1e-9, atol=1e-12)


def test_the_cheaper_of_two_products_is_taken_and_both_agree():
    rng = np.random.default_rng(5)
    X, T, Y = (rng.standard_normal(shape) for shape in ((90, 20), (15, 20), (90, 6)))
    few, many = (operator_of(X, T, penalties=[3.0], voxels=v) for v in (6, 10**6))
    assert few.right is not None
    assert many.right is None
    assert many.multiplications < few.multiplications
    chosen = np.zeros(6, dtype=int)
    np.testing.assert_allclose(predict(few, Y, chosen), predict(many, Y, chosen), rtol=1e-9)


@pytest.mark.parametrize(
    ("penalties", "without_spectrum"), [([0.5, 10.0], True), ([1e-9], False), ([1.0] * 25, False)]
)
def test_the_dual_needs_eigenvalues_only_for_tiny_or_many_penalties(penalties, without_spectrum):
    rng = np.random.default_rng(6)
    X, T, Y = (rng.standard_normal(shape) for shape in ((40, 90), (15, 90), (40, 6)))
    factor = factorise(torch.from_numpy(X))
    operator = make_operator(
        factor, torch.from_numpy(T), penalties, voxels=10**6, dtype=torch.float64
    )
    assert ("spectrum" not in vars(factor)) is without_spectrum
    predicted = predict(operator, Y, np.zeros(6, dtype=int)) + Y.mean(0)
    np.testing.assert_allclose(
        predicted, Ridge(alpha=penalties[0], solver="svd").fit(X, Y).predict(T), rtol=1e-7
    )


def test_small_penalty_is_least_squares():
    rng = np.random.default_rng(3)
    X, T, Y = (rng.standard_normal(shape) for shape in ((80, 10), (20, 10), (80, 4)))
    operator = make_operator(
        factorise(torch.from_numpy(X)), torch.from_numpy(T), [1e-9], voxels=4, dtype=torch.float64
    )
    predicted = predict(operator, Y, np.zeros(4, dtype=int)) + Y.mean(0)
    np.testing.assert_allclose(predicted, LinearRegression().fit(X, Y).predict(T), rtol=1e-6)


def test_large_penalty_predicts_the_mean(data):
    X, T, Y, _ = data
    predicted = predict(operator_of(X, T, penalties=[1e15]), Y, np.zeros(25, dtype=int))
    assert np.abs(predicted).max() < 1e-6


def test_scaling_features_scales_the_penalty_by_the_square(data):
    X, T, Y, Z = data
    r = correlate(operator_of(X, T, penalties=[10.0]), Y, Z)
    np.testing.assert_allclose(
        r, correlate(operator_of(3 * X, 3 * T, penalties=[90.0]), Y, Z), rtol=1e-9
    )


def test_chunks_of_voxels_and_features_do_not_matter(data, monkeypatch):
    X, T, Y, Z = data
    whole = correlate(operator_of(X, T), Y, Z)
    monkeypatch.setattr(gram, "FEATURE_CHUNK", 7)
    monkeypatch.setattr(gram, "GRAM_CHUNK", 11)
    np.testing.assert_allclose(whole, correlate(operator_of(X, T), Y, Z, chunk=3), rtol=1e-10)


def test_means_are_removed_within_test_runs():
    rng = np.random.default_rng(4)
    X, T, Y, Z = (rng.standard_normal(s) for s in ((90, 10), (40, 10), (90, 5), (40, 5)))
    blocks = np.repeat([0, 1], 20)
    moved = Z + 1000 * blocks[:, None]
    operator = operator_of(X, T, blocks=blocks)
    plain = correlate(operator, Y, Z, blocks=blocks)
    np.testing.assert_allclose(plain, correlate(operator, Y, moved, blocks=blocks), rtol=1e-6)
    predicted = centre(Ridge(alpha=PENALTIES[3]).fit(X, Y).predict(T), blocks)
    expected = [np.corrcoef(predicted[:, i], centre(Z, blocks)[:, i])[0, 1] for i in range(5)]
    np.testing.assert_allclose(plain[3], expected, rtol=1e-6)


def test_voxels_without_variance_get_zero(data):
    X, T, Y, Z = (array.copy() for array in data)
    Y[:, 0], Z[:, 1] = 7.0, 7.0
    r = correlate(operator_of(X, T), Y, Z)
    assert (r[:, :2] == 0).all()
    assert np.isfinite(r).all()


def test_bad_input_is_refused(data):
    X, T, *_ = data
    with pytest.raises(ValueError, match="expected values above 0"):
        operator_of(X, T, penalties=[0.0])
    with pytest.raises(ValueError, match="columns, but the training features have"):
        operator_of(X, T[:, 1:])
    X = X.copy()
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        factorise(torch.from_numpy(X))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_gpu_equals_cpu(data):
    X, T, Y, Z = data
    operators = [
        make_operator(
            factorise(torch.from_numpy(X).to(device)),
            torch.from_numpy(T).to(device),
            PENALTIES,
            voxels=25,
            blocks=np.zeros(len(T), dtype=int),
        )
        for device in ("cpu", "cuda")
    ]
    cpu, gpu = (correlate(o, Y.astype("f4"), Z.astype("f4")) for o in operators)
    np.testing.assert_allclose(cpu, gpu, atol=1e-5)
