"""Predicts the loss of thresholds from the scores known so far, to choose the next ones to score."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from statistics import NormalDist
from typing import NamedTuple, Protocol

import numpy as np

from ...chain.evaluation import evaluate
from ...chain.evidence import Evidence
from ...chain.thresholds import STAGE_OFF, Configuration
from ...errors import OperatingPointError
from ...records import Records

#: One threshold per stage before the final, float32 values; +inf for a stage that is off.
Thresholds = tuple[float, ...]

# factors for the distance of a threshold from 1, and the first thresholds of a stage that was off
_STEPS, _FIRST_THRESHOLDS = (0.3, 0.5, 0.7, 0.85, 1.15, 1.4, 1.8, 2.5), (0.9, 0.6)
# a proposal's cost over the best one's: below the range nothing can be predicted, above it little is gained
_MIN_COST, _MAX_COST = 0.5, 0.99
# prior of how many of the answers that differ from the final stage's are lost (mean, deviation); noise of a loss
_PRIOR_MEAN, _PRIOR_DEVIATION, _NOISE = 0.4, 0.4, 0.003


class DynamicChain(Protocol):
    """What the surrogate needs of a dynamic model: its stages before the final, and its fusion rule."""

    @property
    def chain(self) -> tuple[str, ...]:
        """Names of the stages."""

    @property
    def fuse(self) -> Evidence:
        """How answers are combined."""


class Proposal(NamedTuple):
    """Thresholds that are worth a score.

    Attributes:
        saving: Expected saving of cost over the best point so far.
        thresholds: One per stage.
        cost: Mean cost of a sample.
    """

    saving: float
    thresholds: Thresholds
    cost: float


@dataclass(frozen=True)
class _Outcome:
    """Mean cost, and by stage the share of samples that leave there with another answer than the final stage's."""

    cost: float
    shares: np.ndarray


class LossSurrogate:
    """Bayesian linear model of the loss of a dynamic model's thresholds.

    A sample that leaves early with another answer than the final stage's may be wrong, at some stages more often than
    at others. The loss is therefore modelled as linear in the shares of such samples by stage, with weights from
    Bayesian linear regression. The next point to score is the one with the largest expected improvement: its saving
    times the probability that its loss is tolerable (Gardner et al., "Bayesian Optimization with Inequality
    Constraints", 2014).

    Args:
        model: The dynamic model.
        records: The records that it was tuned on, with costs relative to the given model.
    """

    def __init__(self, model: DynamicChain, records: Records):
        self.chain, self.fuse, self.records = model.chain, model.fuse, records
        self._outcomes: dict[Thresholds, _Outcome | None] = {}
        self._losses: dict[Thresholds, float] = {}

    def observe(self, thresholds: Sequence[float], loss: float) -> None:
        """Add the relative loss of thresholds that were scored."""
        self._losses[_float32(thresholds)] = loss

    def propose(self, around: Sequence[float], cost: float, tolerable_loss: float) -> Proposal | None:
        """Return the best point to score among those that differ from a given one in at most two thresholds.

        Args:
            around: The given point.
            cost: Cost of the best point so far.
            tolerable_loss: Largest relative loss of the score.

        Returns:
            The proposal, or None if no point is left.
        """
        weights, covariance = self._posterior()
        best: Proposal | None = None
        for thresholds in _neighbors(around):
            outcome = None if thresholds in self._losses else self._outcome(thresholds)
            if outcome is None or not _MIN_COST * cost <= outcome.cost <= _MAX_COST * cost:
                continue
            deviation = float(np.sqrt(outcome.shares @ covariance @ outcome.shares + _NOISE**2))
            probability = NormalDist(float(outcome.shares @ weights), deviation).cdf(tolerable_loss)
            saving = (cost - outcome.cost) * probability
            if best is None or saving > best.saving:
                best = Proposal(saving, thresholds, outcome.cost)
        return best

    def _posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (S,) and covariance (S, S) of the loss for each answer that differs from the final's, by stage."""
        precision = np.eye(len(self.chain)) / _PRIOR_DEVIATION**2
        weighted = np.full(len(self.chain), _PRIOR_MEAN / _PRIOR_DEVIATION**2)
        for thresholds, loss in self._losses.items():
            outcome = self._outcome(thresholds)
            if outcome is None:
                continue
            precision += np.outer(outcome.shares, outcome.shares) / _NOISE**2
            weighted += outcome.shares * loss / _NOISE**2
        covariance = np.linalg.inv(precision)
        return covariance @ weighted, covariance

    def _outcome(self, thresholds: Thresholds) -> _Outcome | None:
        """Return what thresholds do on the records; None if two stages that are on exclude each other."""
        if thresholds not in self._outcomes:
            self._outcomes[thresholds] = self._evaluate(thresholds)
        return self._outcomes[thresholds]

    def _evaluate(self, thresholds: Thresholds) -> _Outcome | None:
        try:
            result = evaluate(self.records, Configuration.from_array(self.chain, thresholds, self.fuse))
        except OperatingPointError:
            return None
        other = result.prediction != self.records.topk_classes[-1, :, 0]
        places = [self.records.stages.index(name) for name in self.chain]
        return _Outcome(result.cost, np.array([(other & (result.exit_index == place)).mean() for place in places]))


def _neighbors(around: Sequence[float]) -> Iterator[Thresholds]:
    """The points that differ in one or two thresholds, each moved up, down, on or off."""
    steps = [
        _FIRST_THRESHOLDS
        if value == STAGE_OFF
        else (*(1 - (1 - value) * step for step in _STEPS if (1 - value) * step < 1), STAGE_OFF)
        for value in around
    ]
    for count in (1, 2):
        for places in combinations(range(len(around)), count):
            for values in product(*(steps[place] for place in places)):
                moved = list(around)
                for place, value in zip(places, values, strict=True):
                    moved[place] = value
                yield _float32(moved)


def _float32(thresholds: Sequence[float]) -> Thresholds:
    return tuple(float(np.float32(value)) for value in thresholds)
