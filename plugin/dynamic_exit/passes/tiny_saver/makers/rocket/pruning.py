"""Which kernels to keep: POCKET and sequential feature detachment, both without a matrix of features by features."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .ridge import Basis, gram

_ROUNDS = 50
_DROPPED_AT_ONCE = 0.05


@dataclass(frozen=True)
class Candidates:
    """Features to choose from, with the kernels they come from.

    Attributes:
        features: float32 (N, features), centered and of unit norm.
        targets: float64 (N, classes), 1 for the own class and -1 for others.
        kernel_of_feature: int64 (features,).
        costs: float64 (kernels,), what each kernel costs; positive.
    """

    features: Tensor
    targets: Tensor
    kernel_of_feature: Tensor
    costs: Tensor

    def kernel_norms(self, weight: Tensor) -> Tensor:
        """Return the norm of each kernel's weights, (kernels,), for weights (features, classes)."""
        squares = torch.zeros(len(self.costs), dtype=weight.dtype)
        return squares.index_add_(0, self.kernel_of_feature, weight.square().sum(dim=1)).sqrt()

    def columns(self, kernels: Tensor) -> Tensor:
        """Return which features come from kernels: bool (features,) for bool (kernels,)."""
        return kernels[self.kernel_of_feature]


def pocket(candidates: Candidates, basis: Basis, budget: float, penalty: float = 1.0) -> Tensor:
    """Choose kernels as P-ROCKET does (POCKET, arXiv 2309.08499, stage 1).

    A ridge regression and the choice of the kernels with the largest weights pull at each other for 50 rounds (ADMM).
    ``(penalty + X'X)^-1 Z`` is ``(Z - X'(penalty + X X')^-1 X Z) / penalty``, which needs samples by samples alone.

    Args:
        candidates: Features, targets and costs.
        basis: Of the features.
        budget: What the chosen kernels may cost together.
        penalty: How hard both pull; the choice hardly depends on it from 0.1 to 10.

    Returns:
        bool (kernels,), one kernel at least.
    """
    features, targets = candidates.features, candidates.targets - candidates.targets.mean(dim=0)
    if targets.shape[1] == 2:
        targets = targets[:, :1]  # the second class's weights are the first's, negated
    right = features.T @ targets.to(features.dtype)
    chosen, dual = torch.zeros_like(right), torch.zeros_like(right)
    for _ in range(_ROUNDS):
        pulled = penalty * (chosen + dual) + right
        solved = basis.solve((features @ pulled).double(), penalty).to(features.dtype)
        weight = (pulled - features.T @ solved) / penalty
        difference = weight - dual
        norms = candidates.kernel_norms(difference)
        kept = within_budget(norms, candidates.costs, budget)
        threshold = norms[~kept].max() if not kept.all() else torch.zeros(())
        shrink = torch.where(kept, 1 - threshold / norms.clamp_min(1e-30), 0.0).clamp_min(0)
        chosen = difference * shrink[candidates.kernel_of_feature, None]
        dual += chosen - weight
    return kept


def detach(candidates: Candidates, budget: float, penalty: float) -> Tensor:
    """Choose kernels by sequential feature detachment (Detach-ROCKET, arXiv 2309.14518).

    The kernels with the smallest weights are dropped, 5 % at a time, until the others fit the budget.

    Args:
        candidates: Features, targets and costs.
        budget: What the chosen kernels may cost together.
        penalty: Of the ridge regressions.

    Returns:
        bool (kernels,), one kernel at least.
    """
    features, costs = candidates.features, candidates.costs
    targets = candidates.targets - candidates.targets.mean(dim=0)
    left = torch.ones(len(costs), dtype=torch.bool)
    product, identity = gram(features), torch.eye(len(features), dtype=torch.float64)
    while costs[left].sum() > _limit(budget) and left.sum() > 1:
        factor = torch.linalg.cholesky(product + penalty * identity)
        weight = features.T @ torch.cholesky_solve(targets, factor).to(features.dtype)
        norms = torch.where(left, candidates.kernel_norms(weight), -1.0)
        step = within_budget(norms, left.double(), float(int((1 - _DROPPED_AT_ONCE) * int(left.sum()))))
        fewest = within_budget(norms, torch.where(left, costs, 0.0), budget)
        remaining = left & (step | fewest)
        product -= gram(features[:, candidates.columns(left & ~remaining)])
        left = remaining
    return left


def within_budget(norms: Tensor, costs: Tensor, budget: float) -> Tensor:
    """Return the kernels with the largest norms that fit the budget together, the largest at least: bool (kernels,)."""
    order = norms.argsort(descending=True, stable=True)
    fits = costs[order].cumsum(0) <= _limit(budget)
    fits[0] = True
    return torch.zeros(len(norms), dtype=torch.bool).index_copy_(0, order, fits)


def _limit(budget: float) -> float:
    """Return a budget with room for the rounding of sums."""
    return budget * (1 + 1e-9)
