"""Which of two ways to search is cheaper at equal accuracy, on samples that neither has seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.semantics import chain_answer_cost
from ..chain.thresholds import Configuration
from ..points.goal import Goal
from ..records import Records
from ..records.splits import FOLDS, subsample
from ..search.options import SearchOptions
from ..search.solver import Search

# width, in accuracy drop, of the piece of the front that tells what accuracy costs
_STEP = 0.01
# of so many samples two halves tell options apart; with fewer, a half is too few to search on
_SAMPLES = 25_000
_FEW_SAMPLES = 5_000
#: Which samples are searched and which are held out, bool (samples,) each.
Fold = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Way:
    """A way to search.

    Attributes:
        records: The stages that may be used.
        options: Of the search.
    """

    records: Records
    options: SearchOptions


class ExtraCost(NamedTuple):
    """What one way costs more than another, as a share of the other's cost; negative where it is cheaper.

    Attributes:
        by_fold: float64 (folds,), averaged over goals.
        cost: The part of their mean that is cost itself, which hardly varies from sample to sample.
        loss: The part that is wrong answers, at the rate at which the other way saves by them.
        loss_error: Standard error of the loss.
    """

    by_fold: np.ndarray
    cost: float
    loss: float
    loss_error: float

    @property
    def likely(self) -> float:
        """The mean with the loss shrunk by what its noise explains (the positive-part James-Stein estimator).

        Both ways keep the same drop on the samples that they searched, so that on others they hardly differ in it.
        """
        kept = max(0.0, 1 - (self.loss_error / self.loss) ** 2) if self.loss else 0.0
        return self.cost + kept * self.loss


def extra_cost(way: Way, over: Way, goals: Sequence[Goal], folds: Sequence[Fold]) -> ExtraCost:
    """Compare two ways at equal accuracy: what one loses counts as much as the other saves by losing it.

    Args:
        way: The one.
        over: The other, on the same samples.
        goals: What to reach.
        folds: At least one.
    """
    drops = [goal.allowed_drop for goal in goals if goal.budget is None] or [0.0]
    steps = [Goal(max_accuracy_drop=min(1.0, float(np.mean(drops)) + side * _STEP / 2)) for side in (-1, 1)]
    befores = [_cost_and_losses(over, [*goals, *steps], *fold) for fold in folds]
    afters = [_cost_and_losses(way, goals, *fold) for fold in folds]
    saved = np.mean([before[-2, 0].mean() - before[-1, 0].mean() for before in befores])
    slope = max(float(saved) / _STEP, 0.0)
    mean_cost = np.mean([before[: len(goals), 0].mean(1) for before in befores], axis=0)
    # (2, samples) per fold: cost and loss, averaged over goals
    parts = []
    for before, after in zip(befores, afters, strict=True):
        apart = (after - before[: len(goals)]) / mean_cost[:, None, None]
        parts.append(apart.mean(0) * np.array([[1.0], [slope]]))
    cost, loss = np.concatenate(parts, axis=1)
    by_fold = np.array([part.sum(0).mean() for part in parts])
    return ExtraCost(by_fold, float(cost.mean()), float(loss.mean()), float(loss.std() / np.sqrt(len(loss))))


def compare(
    records: Records, goals: Sequence[Goal], options: SearchOptions, than: SearchOptions, savers: int = 2
) -> ExtraCost:
    """Compare options with others on folds of records, each held out in turn.

    Args:
        records: The samples to search on; some of them, where they are many.
        goals: What to reach.
        options: The ones.
        than: The others.
        savers: Chains have at most so many: longer ones take longer and say the same.

    Returns:
        What the ones cost more.
    """
    some = records.take(subsample(len(records), _SAMPLES, options.seed))
    count = FOLDS if len(some) <= _FEW_SAMPLES else 2
    fold = np.random.default_rng(options.seed).permutation(len(some)) % count
    most = savers if options.max_savers is None else min(savers, options.max_savers)
    way, other = (Way(some, replace(each, max_savers=most).quick()) for each in (options, than))
    return extra_cost(way, other, goals, [(fold != out, fold == out) for out in range(count)])


def _cost_and_losses(way: Way, goals: Sequence[Goal], train: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Return cost over the backbone's, and what the answer loses, of each held-out sample: (goals, 2, n).

    Where nothing meets a goal, they are those of the backbone.
    """
    searched, rest = way.records.take(train), way.records.take(held)
    search = Search(way.options.samples_of(searched), way.options.learned_on(searched))
    return np.stack(
        [_measured(rest, search.configuration(found) if found else Configuration()) for found in search.run(goals)]
    )


def _measured(records: Records, configuration: Configuration) -> np.ndarray:
    figures, thresholds = evaluate(records, configuration), configuration.as_array(records.stages[:-1])
    cost = chain_answer_cost(figures.exit_index, thresholds, records.own_cost, records.prefix_cost)
    return np.stack([cost / records.baseline_cost, 1.0 - figures.worth])
