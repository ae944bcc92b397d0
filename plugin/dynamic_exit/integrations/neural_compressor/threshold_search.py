"""Search for the thresholds that cost least at a tolerable loss of the score, over the models of several configs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from neural_compressor.common.base_config import BaseConfig
from torch import nn

from ...runtime.model import DynamicExitModel
from ...runtime.relative_cost import Point, RelativeCost, threshold_fronts
from .evaluator import Evaluator
from .loss_surrogate import LossSurrogate

# merits of a model that misses the goal, and of a failure, are below all merits of models that meet it
_MISSED, _FAILED = -1e6, -1e12
#: Cheaper points that are scored after the first miss: losses of neighbors differ by a few samples.
POINTS_AFTER_MISS = 1
#: Largest number of points scored by the refinement, and the expected relative saving below which it stops.
MAX_REFINEMENTS, MIN_SAVING = 40, 0.0005


@dataclass
class Trial:
    """The outcome of one config.

    Attributes:
        config: The config as it was given.
        score: Score of its best point; None if it was not scored.
        loss: Loss relative to the given model's score.
        cost_ratio: Cost of that point over the given model's.
        thresholds: Thresholds of that point, by stage; empty for a model that is not dynamic.
        evaluations: How often the evaluation function was called.
        meets: Whether the loss is tolerable.
        why: The outcome in words.
    """

    config: BaseConfig
    score: float | None = None
    loss: float | None = None
    cost_ratio: float | None = None
    thresholds: tuple[float, ...] = ()
    evaluations: int = 0
    meets: bool = False
    why: str = ""

    @property
    def merit(self) -> float:
        """The score that `autotune` is told: the cheaper the better."""
        if self.loss is None or self.cost_ratio is None:
            return _FAILED
        return -self.cost_ratio if self.meets else _MISSED * (1 + max(self.loss, 0.0))


@dataclass(frozen=True)
class _Candidate:
    """A dynamic model whose thresholds can still be changed."""

    trial: Trial
    model: DynamicExitModel
    surrogate: LossSurrogate


class ThresholdSearch:
    """Scores the models of all configs and keeps the cheapest at a tolerable loss.

    Args:
        evaluator: Has scored the given model.
        relative_cost: Measures against the given model.
        tolerable_loss: Largest relative loss of the score, in 0..1.

    Attributes:
        best: The best trial so far; None before the first score.
        best_model: Its model.
    """

    def __init__(self, evaluator: Evaluator, relative_cost: RelativeCost, tolerable_loss: float):
        self.evaluator, self.relative_cost, self.tolerable_loss = evaluator, relative_cost, tolerable_loss
        self.best: Trial | None = None
        self.best_model: nn.Module | None = None
        self._candidates: list[_Candidate] = []

    def add(self, trial: Trial, model: nn.Module) -> None:
        """Find the best point of a config's model.

        Args:
            trial: The config's trial, which is filled in.
            model: The model that was made by the config.
        """
        if isinstance(model, DynamicExitModel) and model.records is not None:
            self._descend(_Candidate(trial, model, LossSurrogate(model, self.relative_cost.records(model))))
        else:
            self._score(trial, model, self.relative_cost.ratio(model))
        if trial.score is not None and (self.best is None or trial.merit > self.best.merit):
            self.best, self.best_model = trial, model

    def refine(self) -> None:
        """Score the points of all dynamic models that promise to save most, given the losses observed so far."""
        for _ in range(MAX_REFINEMENTS):
            cost = self._best_cost
            proposals = []
            for candidate in self._candidates:
                proposal = candidate.surrogate.propose(candidate.trial.thresholds, cost, self.tolerable_loss)
                if proposal is not None:
                    proposals.append((candidate, proposal))
            if not proposals:
                break
            candidate, proposal = max(proposals, key=lambda pair: pair[1].saving)
            if proposal.saving < MIN_SAVING * cost:
                break
            if self._score_point(candidate, proposal.cost, proposal.thresholds):
                self.best, self.best_model = candidate.trial, candidate.model
        for candidate in self._candidates:
            candidate.model.set_thresholds(candidate.trial.thresholds)

    @property
    def _best_cost(self) -> float:
        return np.inf if self.best is None or self.best.cost_ratio is None else self.best.cost_ratio

    def _descend(self, candidate: _Candidate) -> None:
        """Go down the fronts of a model's thresholds to the cheapest point with a tolerable loss."""
        trial = candidate.trial
        for points in threshold_fronts(candidate.surrogate.records, candidate.model.fuse):
            known = [each for each in (self.best, trial) if each is not None and each.meets]
            limit = min((each.cost_ratio for each in known if each.cost_ratio is not None), default=np.inf)
            self._bisect(candidate, [point for point in points if point[1] < limit])
        if trial.score is None:
            trial.why = f"not scored: nothing of it costs less than {self._best_cost:.4f}"
        else:
            candidate.model.set_thresholds(trial.thresholds)
            self._candidates.append(candidate)

    def _bisect(self, candidate: _Candidate, points: Sequence[Point]) -> None:
        """Score the most expensive point; if its loss is tolerable, bisect for the cheapest such point."""
        known: dict[int, bool] = {}

        def meets(index: int) -> bool:
            if index not in known:
                configuration, cost = points[index]
                known[index] = self._score_point(
                    candidate, cost, configuration.as_array(candidate.model.chain).tolist()
                )
            return known[index]

        low, high = 0, len(points)
        if not points or not meets(0):
            return
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if meets(middle) else (low, middle)
        for index in range(high + 1, min(high + 1 + POINTS_AFTER_MISS, len(points))):
            meets(index)

    def _score_point(self, candidate: _Candidate, cost: float, thresholds: Sequence[float]) -> bool:
        """Score thresholds of a dynamic model, tell the surrogate, and return whether the loss is tolerable."""
        candidate.model.set_thresholds(thresholds)
        loss = self._score(candidate.trial, candidate.model, cost, thresholds)
        candidate.surrogate.observe(thresholds, loss)
        return loss <= self.tolerable_loss

    def _score(self, trial: Trial, model: nn.Module, cost: float, thresholds: Sequence[float] = ()) -> float:
        """Score a model, update the trial if this is its best point so far, and return the loss."""
        score = self.evaluator.score(model)
        loss = self.evaluator.loss(score)
        point = Trial(trial.config, score, loss, cost, tuple(thresholds), meets=loss <= self.tolerable_loss)
        trial.evaluations += 1
        if point.merit > trial.merit:
            trial.score, trial.loss, trial.cost_ratio, trial.meets = score, loss, cost, point.meets
            trial.thresholds = point.thresholds
            trial.why = f"costs {cost:.4f} of the given model, loses {loss:.2%}" + ("" if point.meets else ", too much")
        return loss
