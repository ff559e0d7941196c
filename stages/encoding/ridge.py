"""Ridge regression for every penalty and every voxel from one factorisation.

Minimises ‖Y − Xw − 1b‖² + α‖w‖² (Hoerl & Kennard 1970; scikit-learn's objective, the intercept
unpenalised). With Xc and Tc the training and test features less the training mean, predictions are

    Ŷ = mean(Y) + H_α Y,   H_α = Tc V (Λ + α)⁻¹ Vᵀ Xcᵀ   XcᵀXc = V Λ Vᵀ   (primal, p ≤ n)
                           H_α = Tc Xcᵀ U (Λ + α)⁻¹ Uᵀ    XcXcᵀ = U Λ Uᵀ   (dual, p > n)

H_α is small (test × training samples) and does not know of voxels, so one eigendecomposition serves
all penalties, and all voxels cost one matrix product: either [H_α for all α] Y at once, or first
VᵀXcᵀY (or UᵀY) and then every penalty, whichever needs fewer operations. Where [H_α] is made in the
dual, a Cholesky decomposition of XcXcᵀ + α for each of a dozen penalties takes half the time of the
eigendecomposition, and replaces it. Gram matrices, decompositions and H_α are float64; only the
products with Y, which are nearly all of the work, run in ``dtype``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear

from stages.encoding import gram
from stages.encoding.gram import Factor, chunks

VOXEL_CHUNK = 2048  # voxels whose predictions for all penalties are held at a time

HAS_ONEDNN = torch.backends.mkldnn.is_available()

Floats = NDArray[Any]


class Columns(Protocol):
    """Samples × voxels of which slices of voxels are read: an array, a memory map, rows of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples and voxels."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[slice, slice], /) -> Floats: ...


@dataclass(frozen=True)
class Operator:
    """Predictions without the mean: ``left @ (right @ Y)``, or ``left @ Y`` if right is None.

    ``left`` is (penalties × test samples, k or n), test samples of one penalty together.
    """

    left: Tensor
    right: Tensor | None
    n_penalties: int

    @property
    def multiplications(self) -> int:
        """Multiply-adds per voxel."""
        return self.left.numel() + (0 if self.right is None else self.right.numel())

    @property
    def numpy_type(self) -> type[np.floating[Any]]:
        """The type of results."""
        return np.float64 if self.left.dtype == torch.float64 else np.float32

    @cached_property
    def _factors(self) -> list[Tensor]:
        """Right and left, in oneDNN's layout where that is faster.

        For float32 on a CPU torch multiplies by MKL, which leaves half of the width of other
        makers' processors idle; oneDNN's linear layer uses what the processor has.
        """
        matrices = [self.left] if self.right is None else [self.right, self.left]
        is_fast = self.left.dtype == torch.float32 and self.left.device.type == "cpu"
        return [m.to_mkldnn() for m in matrices] if is_fast and HAS_ONEDNN else matrices

    def apply(self, Y: Tensor) -> Tensor:
        """Predict for voxels × training samples: (v, n) -> (v, penalties, test samples)."""
        for matrix in self._factors:
            Y = linear(Y.to_mkldnn(), matrix).to_dense() if matrix.is_mkldnn else Y @ matrix.T
        return Y.reshape(len(Y), self.n_penalties, -1)


def make_operator(
    factor: Factor,
    T: Tensor,
    penalties: Sequence[float],
    *,
    voxels: int,
    dtype: torch.dtype = torch.float32,
    blocks: Floats | None = None,
) -> Operator:
    """Build what turns training responses into predictions of all penalties.

    Parameters
    ----------
    factor : Factor
        Of the training features.
    T : Tensor, (test samples, features)
        Test features.
    penalties : sequence of float
        α > 0.
    voxels : int
        How many it will be applied to: with many, products of H_α pay.
    dtype : torch.dtype
        Of the operator, and so of the products with Y.
    blocks : array of int, (test samples,), optional
        Labels of test runs; if given, predictions come out centred within each, as a correlation
        needs them.

    Raises
    ------
    ValueError
        A penalty that is not positive, or test features of another number.
    """
    if min(penalties) <= 0:
        raise ValueError(f"penalties: found {min(penalties)}, expected values above 0")
    n, p = factor.features.shape
    if T.shape[1] != p:
        raise ValueError(f"test features: {T.shape[1]} columns, but the training features have {p}")
    alphas = torch.as_tensor(list(penalties), dtype=torch.float64, device=T.device)
    beside = gram.multiply(factor, T)  # (m, k)
    if blocks is not None:
        beside = torch.as_tensor(centre(beside.cpu().numpy(), blocks)).to(T.device)
    k, rows = len(factor.gram), len(alphas) * len(T)
    # With scores, (k, n), all penalties are applied to k numbers per voxel instead of n.
    is_direct = rows * n * (k + voxels) <= (k * n + rows * k) * voxels
    if is_direct and factor.is_dual and gram.can_solve(factor, alphas):
        return Operator(gram.solve(factor, beside, alphas).to(dtype), None, len(alphas))
    values, vectors = factor.spectrum
    shrunk = (beside @ vectors / (values + alphas[:, None, None])).reshape(-1, k)
    to_scores = gram.to_scores(factor)
    if is_direct:
        return Operator((shrunk @ to_scores).to(dtype), None, len(alphas))
    return Operator(shrunk.to(dtype), to_scores.to(dtype), len(alphas))


def correlate(
    operator: Operator,
    Y: Columns,
    Y_test: Columns,
    *,
    blocks: Floats | None = None,
    chunk: int = VOXEL_CHUNK,
) -> Floats:
    """Correlate predictions of all penalties with measured responses, voxel by voxel.

    Parameters
    ----------
    operator : Operator
        Made with the same ``blocks``, and therefore centred.
    Y, Y_test : array, (training samples, voxels) and (test samples, voxels)
        Read in chunks of voxels; fastest if voxels are rows in memory (a transposed view).
    blocks : array of int, (test samples,), optional
        Labels of test runs; means are removed within each. One run if not given.

    Returns
    -------
    r : array, (penalties, voxels), of the operator's type
        Pearson's r; 0 where prediction or measurement does not vary.
    """
    blocks = np.zeros(len(Y_test), dtype=int) if blocks is None else blocks
    r = np.zeros((operator.n_penalties, Y.shape[1]), dtype=operator.numpy_type)
    for voxels, responses in _readchunks(Y, operator, chunk):
        predicted = operator.apply(responses)  # (v, A, m)
        measured = _to_operator(centre(Y_test[:, voxels], blocks), operator)
        norms = torch.linalg.vector_norm(predicted, dim=2)
        norms *= torch.linalg.vector_norm(measured, dim=1)[:, None]
        products = torch.bmm(predicted, measured[:, :, None])[:, :, 0]
        found = torch.where(norms > 0, products / norms, 0.0)
        r[:, voxels] = found.T.cpu().numpy()
    return r


def predict(operator: Operator, Y: Floats, chosen: NDArray[np.intp]) -> Floats:
    """Predict each voxel with the penalty chosen for it.

    Parameters
    ----------
    operator : Operator
        Of all penalties.
    Y : array, (training samples, voxels)
        Training responses.
    chosen : array of int, (voxels,)
        Index of each voxel's penalty.

    Returns
    -------
    predicted : array, (test samples, voxels), of the operator's type
        Without the mean of the training responses.
    """
    m = len(operator.left) // operator.n_penalties
    # Voxels as rows, so that a chunk of them is written in one piece.
    predicted = np.zeros((Y.shape[1], m), dtype=operator.numpy_type)
    for index in np.unique(chosen):
        part = Operator(operator.left[index * m : (index + 1) * m], operator.right, 1)
        members = np.flatnonzero(chosen == index)
        for rows in chunks(len(members), VOXEL_CHUNK):
            voxels = members[rows]
            responses = _to_operator(_less_mean(Y.T[voxels].T), operator)
            predicted[voxels] = part.apply(responses)[:, 0].cpu().numpy()
    return predicted.T


def _readchunks(Y: Columns, operator: Operator, chunk: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of voxels with their centred responses, (voxels, samples), one by one."""
    for voxels in chunks(Y.shape[1], chunk):
        yield voxels, _to_operator(_less_mean(Y[:, voxels]), operator)


def centre(values: Floats, blocks: Floats) -> Floats:
    """Remove means over samples, (samples, ...), within each block of samples."""
    values = np.array(values)
    for block in np.unique(blocks):
        values[blocks == block] -= values[blocks == block].mean(0, dtype=np.float64)
    return values


def _less_mean(Y: Floats) -> Floats:
    # H_α 1 = 0, so the mean is of no effect but on the digits that float32 has left for the rest.
    return Y - Y.mean(0, dtype=np.float64).astype(Y.dtype)


def _to_operator(columns: Floats, operator: Operator) -> Tensor:
    """Turn samples × voxels into voxels × samples on the operator's device, in its type."""
    return torch.from_numpy(np.ascontiguousarray(columns.T)).to(operator.left)
