"""Which thresholds of a model in memory are worth a score: what they lose is foretold from those scored before."""

from collections.abc import Iterator
from itertools import combinations, product
from statistics import NormalDist

import numpy as np

from ...chain.evaluation import Configuration, evaluate
from ...errors import OperatingPointError
from ...records import Records
from ...runtime.model import DynamicExitModel

Thresholds = tuple[float, ...]

# by what the distance of a threshold from 1 is multiplied, and where a stage that was off begins
_STEPS, _ON = (0.3, 0.5, 0.7, 0.85, 1.15, 1.4, 1.8, 2.5), (0.9, 0.6)
# what a point may cost over the best one: farther away nothing is foretold, nearer nothing is gained
_BOLDEST, _SHYEST = 0.5, 0.99
# before any score: how much of the answers that differ from the final's is lost, give or take; and the noise of a loss
_LOST, _SPREAD, _NOISE = 0.4, 0.4, 0.003


class LossSurrogate:
    """What the thresholds of one dynamic model are expected to lose.

    A sample that leaves early with another answer than the final's may be wrong, at some stages more often than at
    others. So the loss is taken as linear in the shares of samples that leave at each stage with another answer than
    the final's, with weights from Bayesian linear regression. The point worth a score is that of the largest expected
    improvement: what it saves times the probability that its loss is tolerable (Gardner et al., "Bayesian Optimization
    with Inequality Constraints", 2014).

    Args:
        model: The model.
        records: Those that it was tuned on, with costs over the given model's.
    """

    def __init__(self, model: DynamicExitModel, records: Records):
        self.chain, self.fuse, self.records = model.chain, model.fuse, records
        self._known: dict[Thresholds, tuple[float, np.ndarray] | None] = {}
        self._losses: dict[Thresholds, float] = {}

    def learn(self, thresholds: Thresholds, loss: float) -> None:
        """Take the relative loss of a point that was scored; thresholds one per stage, +inf for off."""
        self._losses[_float32(thresholds)] = loss

    def best(self, around: Thresholds, cost: float, tolerable: float) -> tuple[float, Thresholds, float] | None:
        """Return the point most worth a score, of those that differ from one in at most two thresholds.

        Args:
            around: That point.
            cost: Of the best point so far.
            tolerable: Largest relative loss.

        Returns:
            Expected saving, thresholds and cost; None where no point is left.
        """
        weights, covariance = self._weights()
        found = None
        for thresholds in _moves(around):
            point = None if thresholds in self._losses else self._at(thresholds)
            if point is None or not _BOLDEST * cost <= point[0] <= _SHYEST * cost:
                continue
            price, shares = point
            unsure = float(np.sqrt(shares @ covariance @ shares + _NOISE**2))
            saving = (cost - price) * NormalDist(float(shares @ weights), unsure).cdf(tolerable)
            if found is None or saving > found[0]:
                found = (saving, thresholds, price)
        return found

    def _weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and covariance of what an answer other than the final's loses, by stage."""
        precision = np.eye(len(self.chain)) / _SPREAD**2
        weighted = np.full(len(self.chain), _LOST / _SPREAD**2)
        for thresholds, loss in self._losses.items():
            _, shares = self._at(thresholds)
            precision += np.outer(shares, shares) / _NOISE**2
            weighted += shares * loss / _NOISE**2
        covariance = np.linalg.inv(precision)
        return covariance @ weighted, covariance

    def _at(self, thresholds: Thresholds) -> tuple[float, np.ndarray] | None:
        """Cost, and by stage the share that leaves there with another answer; None for stages that exclude another."""
        if thresholds not in self._known:
            used = [(name, value) for name, value in zip(self.chain, thresholds, strict=True) if value < np.inf]
            try:
                found = evaluate(self.records, Configuration(tuple(used), self.fuse))
            except OperatingPointError:
                self._known[thresholds] = None
            else:
                other = found.prediction != self.records.topk_classes[-1, :, 0]
                places = [self.records.stages.index(name) for name in self.chain]
                shares = np.array([(other & (found.exit_index == place)).mean() for place in places])
                self._known[thresholds] = found.cost, shares
        return self._known[thresholds]


def _moves(around: Thresholds) -> Iterator[Thresholds]:
    """The points that differ in one threshold or two: each moved up, down, on or off."""
    steps = [
        _ON if value == np.inf else [*(1 - (1 - value) * step for step in _STEPS if (1 - value) * step < 1), np.inf]
        for value in around
    ]
    for count in (1, 2):
        for places in combinations(range(len(around)), count):
            for values in product(*(steps[place] for place in places)):
                moved = list(around)
                for place, value in zip(places, values, strict=True):
                    moved[place] = value
                yield _float32(moved)


def _float32(thresholds) -> Thresholds:
    return tuple(float(np.float32(value)) for value in thresholds)
