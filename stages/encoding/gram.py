"""What ridge regression solves with: the Gram matrix of the features, factorised."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

FEATURE_CHUNK = 2048  # columns of X that are float64 at a time while a Gram matrix is summed
GRAM_CHUNK = 512  # rows of a Gram matrix that are computed at a time, up to its diagonal
MOST_PENALTIES = 24  # of which Cholesky decompositions cost less than one of eigenvalues
LEAST_PENALTY = 1e-10  # of the trace; below, rounding would be seen in float32 predictions


@dataclass(frozen=True)
class Factor:
    """The smaller Gram matrix of the centred training features, and its eigendecomposition.

    ``gram`` is (k, k), float64, with k = min(n, p), its lower half alone; ``features`` are the
    training features as given, (n, p), and ``mean`` their column means, (p,).
    """

    features: Tensor
    mean: Tensor
    gram: Tensor

    @property
    def is_dual(self) -> bool:
        """Tell whether samples, not features, were factorised."""
        n, p = self.features.shape
        return p > n

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues, (k,), and eigenvectors, (k, k), float64."""
        values, vectors = torch.linalg.eigh(self.gram, UPLO="L")
        # Rounding makes eigenvalues that are zero slightly negative.
        return values.clamp_min(0.0), vectors


def factorise(X: Tensor) -> Factor:
    """Factorise training features, (samples, features), of any float type.

    Raises
    ------
    ValueError
        Values that are not finite.
    """
    if not bool(torch.isfinite(X).all()):
        raise ValueError("the features hold values that are not finite; look at the feature files")
    mean = X.mean(0, dtype=torch.float64)
    n, p = X.shape
    gram = X.new_zeros((min(n, p), min(n, p)), dtype=torch.float64)
    if p > n:
        for columns in chunks(p, FEATURE_CHUNK):
            _add_lower_half(gram, X[:, columns].double() - mean[columns])
    else:
        _add_lower_half(gram, (X.double() - mean).T)
    return Factor(X, mean, gram)


def multiply(factor: Factor, T: Tensor) -> Tensor:
    """Compute Tc, or in the dual Tc Xcᵀ: test samples beside what was factorised, (m, k)."""
    if not factor.is_dual:
        return T.double() - factor.mean
    kernel = T.new_zeros((len(T), len(factor.features)), dtype=torch.float64)
    for columns in chunks(T.shape[1], FEATURE_CHUNK):
        mean = factor.mean[columns]
        kernel.addmm_(
            T[:, columns].double() - mean, (factor.features[:, columns].double() - mean).T
        )
    return kernel


def can_solve(factor: Factor, alphas: Tensor) -> bool:
    """Tell whether penalties are few, and large enough for a Cholesky decomposition to be exact.

    The trace is at least the largest eigenvalue, so trace / α bounds the condition number.
    """
    least = LEAST_PENALTY * factor.gram.diagonal().sum()
    return len(alphas) <= MOST_PENALTIES and bool(alphas.min() >= least)


def solve(factor: Factor, beside: Tensor, alphas: Tensor) -> Tensor:
    """Compute [H_α] = [Tc Xcᵀ (XcXcᵀ + α)⁻¹] of all penalties, (penalties × m, n)."""
    parts = []
    for alpha in alphas:
        shifted = factor.gram.clone()
        shifted.diagonal().add_(alpha)
        parts.append(torch.cholesky_solve(beside.T, torch.linalg.cholesky(shifted)).T)
    return torch.cat(parts)


def to_scores(factor: Factor) -> Tensor:
    """Compute Vᵀ Xcᵀ or Uᵀ: what brings responses into eigen-coordinates, (k, n), float64."""
    _, vectors = factor.spectrum
    if factor.is_dual:
        return vectors.T
    return vectors.T @ (factor.features.double() - factor.mean).T


def _add_lower_half(gram: Tensor, part: Tensor) -> None:
    """Add part @ part.T to the lower half of a symmetric matrix, and nothing to most of the rest.

    Parameters
    ----------
    gram : Tensor, (k, k)
    part : Tensor, (k, any)
    """
    for rows in chunks(len(gram), GRAM_CHUNK):
        gram[rows, : rows.stop].addmm_(part[rows], part[: rows.stop].T)


def chunks(length: int, size: int) -> Iterator[slice]:
    """Cut a range into slices of a size; the last may be shorter."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
