"""Fits ROCKET and MiniRocket to series: features, ridge regression, pruning, probabilities."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .checks import check_labels, check_series
from .classifier import KINDS, Kind, RocketClassifier
from .features import SeriesFeatures
from .pruning import Candidates, detach, pocket
from .ridge import Basis, Scale, class_targets, fit_ridge
from .temperature import fit_factor

#: Samples of which a ridge regression is fitted if there are more features; of more samples these are drawn.
MAX_SAMPLES = 5_000


@dataclass(frozen=True)
class RocketOptions:
    """How features are made, and which kernels are kept.

    Attributes:
        kind: ``rocket`` or ``minirocket``.
        count: Kernels of ROCKET, features of MiniRocket.
        prune: ``pocket``, ``detach``, or None for all kernels.
        keep: Share of the kernels' multiply-adds that pruning leaves at most, in (0, 1].
        seed: Decides all draws.
    """

    kind: Kind = "rocket"
    count: int = 10_000
    prune: Literal["pocket", "detach"] | None = "pocket"
    keep: float = 0.32
    seed: int = 0


@dataclass(frozen=True)
class FeatureTable:
    """Features of training series.

    Attributes:
        features: What computed them.
        values: float32 (N, features).
        labels: int64 (N,), in 0..classes - 1.
        classes: Number of classes.
        costs: float64 (kernels,), the multiply-adds of each kernel on one series.
    """

    features: SeriesFeatures
    values: Tensor
    labels: Tensor
    classes: int
    costs: Tensor


@dataclass(frozen=True)
class RocketFit:
    """A fitted classifier, and what is known of it.

    Attributes:
        classifier: In evaluation mode, with the kept kernels alone.
        kept: Which kernels these are, bool (kernels,).
        penalty: Of its ridge regression.
        held_out_accuracy: Of all kernels, on each training sample by the regression on all others; in 0..1.
    """

    classifier: RocketClassifier
    kept: Tensor
    penalty: float
    held_out_accuracy: float


def fit_rocket(series: Tensor, labels: Tensor, classes: int, options: RocketOptions) -> RocketFit:
    """Fit a classifier to series; of more than `MAX_SAMPLES`, and as many features, to so many drawn at random.

    Args:
        series: float (N, channels, length).
        labels: int64 (N,), in 0..classes - 1.
        classes: Number of classes.
        options: Kernels, pruning and seed.

    Raises:
        PassError: Series, labels or classes do not suit, see `check_series` and `check_labels`.
    """
    check_series(series, options.kind)
    check_labels(labels, classes, options.kind)
    return fit_table(compute_table(series, labels, classes, options), options)


def compute_table(series: Tensor, labels: Tensor, classes: int, options: RocketOptions) -> FeatureTable:
    """Make features for series and compute them; arguments as for `fit_rocket`."""
    features = KINDS[options.kind].fit(series, options.count, options.seed)
    if min(len(series), len(features.kernel_of_feature())) > MAX_SAMPLES:
        rows = torch.randperm(len(series), generator=torch.Generator().manual_seed(options.seed))[:MAX_SAMPLES]
        series, labels = series[rows], labels[rows]
    return FeatureTable(features, features.compute(series), labels, classes, features.kernel_macs(series.shape[2]))


def fit_table(table: FeatureTable, options: RocketOptions) -> RocketFit:
    """Fit a classifier to features of series, as `fit_rocket` does.

    The penalty is chosen by leave-one-out and the temperature fitted to leave-one-out scores, both with all kernels:
    the choice of kernels has seen every sample, so that scores after it are too good. The kept features have the same
    penalty times their share, as all of them have unit norm.
    """
    scale = Scale.of(table.values)
    values, targets = scale.apply(table.values), class_targets(table.labels, table.classes)
    basis = Basis.of(values)
    ridge = fit_ridge(values, targets, basis=basis)
    factor = fit_factor(ridge.held_out, table.labels)
    accuracy = float((ridge.held_out.argmax(dim=1) == table.labels).double().mean())
    candidates = Candidates(values, targets, table.features.kernel_of_feature(), table.costs)
    kept = _choose(candidates, basis, ridge.penalty, options)
    features = table.features
    if not kept.all():
        columns = candidates.columns(kept)
        features, scale = features.select(kept), scale.select(columns)
        ridge = fit_ridge(values[:, columns], targets, [ridge.penalty * float(columns.double().mean())])
    return RocketFit(RocketClassifier.from_ridge(features, scale, ridge, factor), kept, ridge.penalty, accuracy)


def _choose(candidates: Candidates, basis: Basis, penalty: float, options: RocketOptions) -> Tensor:
    """Choose kernels: bool (kernels,)."""
    if options.prune is None:
        return torch.ones(len(candidates.costs), dtype=torch.bool)
    budget = options.keep * float(candidates.costs.sum())
    return pocket(candidates, basis, budget) if options.prune == "pocket" else detach(candidates, budget, penalty)
