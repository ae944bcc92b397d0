"""Ridge regression on class targets, with its penalty and its scores by leave-one-out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Penalties to choose from, for features of unit norm.
PENALTIES = tuple(torch.logspace(-3, 3, 31, dtype=torch.float64).tolist())
# columns that are multiplied in double precision at a time
_COLUMNS = 2048
# eigenvalues below this share of the largest are rounding errors
_RANK_TOLERANCE = 1e-11


@dataclass(frozen=True)
class Scale:
    """Centers features and gives them unit norm; constant ones become zero.

    Attributes:
        mean: float32 (features,).
        norm: float32 (features,), positive.
    """

    mean: Tensor
    norm: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Scale":
        """Return the scale of features (N, features)."""
        mean = features.mean(dim=0)
        norm = torch.linalg.vector_norm(features - mean, dim=0)
        tiny = 1e-6 * mean.abs() * len(features) ** 0.5
        return cls(mean, torch.where(norm > tiny, norm, torch.ones_like(norm)))

    def apply(self, features: Tensor) -> Tensor:
        """Scale features (N, features)."""
        return (features - self.mean) / self.norm

    def select(self, columns: Tensor) -> "Scale":
        """Return the scale of some of the features; bool (features,)."""
        return Scale(self.mean[columns], self.norm[columns])


@dataclass(frozen=True)
class Basis:
    """The directions in which samples differ: ``X X' = vectors diag(values) vectors'``.

    Attributes:
        vectors: float64 (N, rank), orthonormal.
        values: float64 (rank,), positive, ascending.
    """

    vectors: Tensor
    values: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Basis":
        """Decompose centered features (N, features), by the smaller of their two products."""
        if len(features) <= features.shape[1]:
            values, vectors = torch.linalg.eigh(gram(features))
            kept = values > _RANK_TOLERANCE * values[-1]
            return cls(vectors[:, kept], values[kept])
        values, directions = torch.linalg.eigh(gram(features.T))
        kept = values > _RANK_TOLERANCE * values[-1]
        vectors = features.double() @ directions[:, kept] / values[kept].sqrt()
        return cls(vectors, values[kept])

    def solve(self, targets: Tensor, penalty: float) -> Tensor:
        """Return ``(X X' + penalty)^-1 targets`` for targets (N, classes) within the span of the vectors."""
        return self.vectors @ ((self.vectors.T @ targets) / (self.values + penalty)[:, None])


def gram(features: Tensor) -> Tensor:
    """Return ``X X'`` in double precision, (N, N), without a copy of all features in it."""
    product = torch.zeros(len(features), len(features), dtype=torch.float64)
    for columns in features.split(_COLUMNS, dim=1):
        double = columns.double()
        product.addmm_(double, double.T)
    return product


def class_targets(labels: Tensor, classes: int) -> Tensor:
    """Return 1 for a sample's own class and -1 for all others, float64 (N, classes)."""
    return 2 * torch.nn.functional.one_hot(labels, classes).double() - 1


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge regression; a score is ``features @ weight + bias``.

    Attributes:
        weight: float32 (features, classes).
        bias: float32 (classes,).
        penalty: The penalty chosen.
        held_out: float64 (N, classes): the score of each sample by the regression on all others.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    held_out: Tensor


def fit_ridge(
    features: Tensor, targets: Tensor, penalties: Sequence[float] = PENALTIES, basis: Basis | None = None
) -> Ridge:
    """Fit a ridge regression with the penalty whose leave-one-out scores have the smallest squared error.

    The leave-one-out scores are exact: a sample's residual over one less its own weight in its prediction.

    Args:
        features: float32 (N, features), centered.
        targets: float64 (N, classes).
        penalties: To choose from, each positive.
        basis: Of the features, if it is known.
    """
    basis = Basis.of(features) if basis is None else basis
    mean = targets.mean(dim=0)
    projected = basis.vectors.T @ (targets - mean)
    found: list[tuple[float, float, Tensor]] = []
    for penalty in penalties:
        shrink = basis.values / (basis.values + penalty)
        residual = targets - mean - basis.vectors @ (shrink[:, None] * projected)
        own = 1 / len(targets) + basis.vectors.square() @ shrink
        error = residual / (1 - own).clamp_min(1e-12)[:, None]
        found.append((float(error.square().mean()), penalty, targets - error))
    _, penalty, held_out = min(found, key=lambda each: each[0])
    weight = features.T @ basis.solve(targets - mean, penalty).to(features.dtype)
    return Ridge(weight, mean.to(features.dtype), penalty, held_out)
