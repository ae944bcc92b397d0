"""The choice of kernels: as the papers have it, and within the budget."""

import pytest
import torch

from dynamic_exit.passes.tiny_saver.makers.rocket.pruning import Candidates, detach, pocket, within_budget
from dynamic_exit.passes.tiny_saver.makers.rocket.ridge import Basis, Scale, class_targets

SAMPLES, KERNELS, CLASSES = 40, 60, 3


def candidates(features_of_kernel=2, informative=6, seed=0, costs=None, classes=CLASSES):
    """Kernels of which the first `informative` tell the classes apart."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(SAMPLES) % classes
    kernel_of_feature = torch.arange(KERNELS).repeat(features_of_kernel)
    features = torch.randn(SAMPLES, len(kernel_of_feature), generator=generator)
    useful = kernel_of_feature < informative
    means = 3 * torch.randn(classes, int(useful.sum()), generator=generator)
    features[:, useful] += means[labels]
    values = Scale.of(features).apply(features)
    costs = torch.ones(KERNELS, dtype=torch.float64) if costs is None else costs
    return Candidates(values, class_targets(labels, classes), kernel_of_feature, costs)


def pocket_by_the_paper(given, kept, penalty=1.0):
    """Stage 1 as the paper writes it, with a matrix of features by features."""
    x, y = given.features.double(), given.targets - given.targets.mean(0)
    inverse = torch.linalg.inv(penalty * torch.eye(x.shape[1], dtype=torch.float64) + x.T @ x)
    theta = u = torch.zeros(x.shape[1], y.shape[1], dtype=torch.float64)
    for _ in range(50):
        w = inverse @ (penalty * (theta + u) + x.T @ y)
        v = w - u
        norms = torch.stack([v[given.kernel_of_feature == kernel].norm() for kernel in range(KERNELS)])
        threshold = norms.sort(descending=True).values[kept]
        theta = v * (1 - threshold / norms).clamp(min=0)[given.kernel_of_feature, None]
        u = u + theta - w
    return torch.stack([theta[given.kernel_of_feature == kernel].norm() > 0 for kernel in range(KERNELS)])


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kept", [5, 20])
def test_pocket_keeps_the_kernels_that_it_keeps_with_the_large_matrix(penalty, classes, kept):
    given = candidates(classes=classes)
    found = pocket(given, Basis.of(given.features), kept, penalty)
    assert found.sum() == kept
    assert torch.equal(found, pocket_by_the_paper(given, kept, penalty))


def detach_by_the_paper(given, kept, penalty):
    """Detachment with a regression on the features left in every step."""
    left = torch.arange(KERNELS)
    y = given.targets - given.targets.mean(0)
    while len(left) > kept:
        columns = torch.isin(given.kernel_of_feature, left)
        x = given.features[:, columns].double()
        weight = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1], dtype=torch.float64), x.T @ y)
        norms = torch.stack([weight[given.kernel_of_feature[columns] == kernel].norm() for kernel in left])
        left = left[norms.argsort(descending=True)[: max(kept, int(0.95 * len(left)))]]
    return torch.isin(torch.arange(KERNELS), left)


@pytest.mark.parametrize("penalty", [0.1, 1.0])
@pytest.mark.parametrize("kept", [1, 7, 30])
def test_detach_keeps_the_kernels_of_regressions_on_the_features_left(penalty, kept):
    given = candidates()
    found = detach(given, kept, penalty)
    assert found.sum() == kept
    assert torch.equal(found, detach_by_the_paper(given, kept, penalty))


@pytest.mark.parametrize("features_of_kernel", [1, 4])
def test_kernels_that_tell_classes_apart_are_kept(features_of_kernel):
    given = candidates(features_of_kernel)
    for kept in (pocket(given, Basis.of(given.features), 6), detach(given, 6, 1.0)):
        assert kept[:6].sum() >= 5


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_what_is_kept_costs_no_more_than_the_budget(share):
    costs = torch.rand(KERNELS, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    given = candidates(costs=costs)
    budget = share * float(costs.sum())
    for kept in (pocket(given, Basis.of(given.features), budget), detach(given, budget, 1.0)):
        spent = float(costs[kept].sum())
        assert kept.any() and (spent <= budget * 1.001 or kept.sum() == 1)
        assert spent > budget - 1.2 or kept.all()


def test_a_budget_takes_the_largest_first():
    norms, costs = torch.tensor([1.0, 5.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 1.0, 2.0])
    assert within_budget(norms, costs, 4.5).tolist() == [False, True, False, True]
    assert within_budget(norms, costs, 0.1).tolist() == [False, True, False, False]
