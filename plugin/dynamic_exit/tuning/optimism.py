"""How much better a search looks on its own samples than on others, and the margin that makes up for it.

Thresholds and stages chosen on few samples fit their noise. Searching on all folds but one and measuring on that one
shows by how much the accuracy drop grows on samples that the search has not seen; the search on all samples is then
asked for that much less. Both measurements are on the same samples, so most of their own noise cancels.
"""

from collections.abc import Sequence

import numpy as np

from ..chain.evaluation import evaluate
from ..points.goal import Goal
from ..records import Records
from ..records.splits import FOLDS, folds
from ..search.options import SearchOptions
from ..search.solver import Search

# with more samples the correction is smaller than what it costs to estimate it
_MAX_SAMPLES = 200_000
_MIN_SAMPLES = 20
# drops around the goal at which the optimism is measured, in standard errors of the drop: the mean of two is less noisy
# than either. Folds on which nothing saves at a drop say nothing about it and are left out.
_LEVELS = (-0.25, 0.75)
_MAX_STANDARD_ERRORS = 3.0


def estimate_optimism(search: Search, goals: Sequence[Goal]) -> list[float]:
    """Estimate by how much the accuracy drop grows from the samples searched to others, on average.

    Args:
        search: The search on all samples, by their labels.
        goals: What to reach; only goals that allow a drop count.

    Returns:
        A share of 0 or more per goal: that of all goals together, as far as the folds do not tell them apart; 0 for
        budgets, and with so many samples that it does not matter.
    """
    records, options = search.records, search.options
    samples, optimism = len(records), [0.0] * len(goals)
    places = [place for place, goal in enumerate(goals) if goal.budget is None]
    if not places or samples > _MAX_SAMPLES or samples < _MIN_SAMPLES or len(records.stages) < 2:
        return optimism
    with_drop = [goals[place] for place in places]
    errors = _standard_errors(search, with_drop)
    levels = [
        [min(1.0, max(-1.0, goal.allowed_drop - step * error)) for step in _LEVELS]
        for goal, error in zip(with_drop, errors, strict=True)
    ]
    every = sorted({level for each in levels for level in each})
    measured = _growth(records, [Goal(max_accuracy_drop=level) for level in every], options)
    at_goal = np.stack([_finite_mean(measured[:, [every.index(level) for level in each]], 1) for each in levels], 1)
    saves = np.isfinite(at_goal).any(0)
    if not saves.any():
        return optimism
    # each fold's search had four fifths of the samples, so this is rather a little too much than too little
    growth = np.full(len(with_drop), np.nan)
    growth[saves] = np.clip(_pooled(at_goal[:, saves]), 0.0, _MAX_STANDARD_ERRORS * np.array(errors)[saves])
    # nothing saves at so small a drop on four fifths of the samples: what is found on all fits noise as the others do
    growth[~saves] = growth[saves].max()
    for place, each in zip(places, growth, strict=True):
        optimism[place] = float(each)
    return optimism


def _pooled(growth: np.ndarray) -> np.ndarray:
    """Shrink the growth of each goal towards that of all goals, the more the less the folds tell them apart.

    A goal keeps the share 1 - e² / d² of its distance d from the mean, for the standard error e of d over the folds
    (the positive-part James-Stein estimator).

    Args:
        growth: (folds, goals), NaN where nothing saves.

    Returns:
        Growth (goals,).
    """
    apart = growth - _finite_mean(growth, 1)[:, None]
    every = _finite_mean(growth, 0).mean()
    distance = _finite_mean(growth, 0) - every
    # rounds of folds share their samples: another round makes the mean hardly more certain
    square = _finite_mean((apart - _finite_mean(apart, 0)) ** 2, 0) / FOLDS
    kept = np.maximum(0.0, 1 - square / np.maximum(distance**2, 1e-12))
    return every + kept * distance


def _finite_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    finite = np.isfinite(values)
    counts = finite.sum(axis)
    return np.where(counts > 0, np.where(finite, values, 0.0).sum(axis) / np.maximum(counts, 1), np.nan)


def _standard_errors(search: Search, goals: Sequence[Goal]) -> list[float]:
    # of the drop per goal: only samples on which one of backbone and dynamic model does better contribute
    records, shares = search.records, [0.0] * len(goals)
    for place, found in enumerate(search.quick().run(goals)):
        if found is not None:
            losses = evaluate(records, search.configuration(found)).losses
            shares[place] = float((losses**2).mean())
    return [float(np.sqrt(max(share, 1 / len(records)) / len(records))) for share in shares]


def _growth(records: Records, goals: Sequence[Goal], options: SearchOptions) -> np.ndarray:
    # per fold and goal, the drop on held-out samples less the drop on those searched; NaN where nothing saves
    growth = []
    for searched, held_out in folds(len(records), options.seed):
        train, held = records.take(searched), records.take(held_out)
        # as many chains as in the search itself, whose choice among them fits noise as well
        search = Search(options.samples_of(train), options.quick().learned_on(train))
        growth.append([np.nan] * len(goals))
        for place, found in enumerate(search.run(goals)):
            configuration = search.configuration(found) if found is not None else None
            if configuration is not None and configuration.stages:
                inside, outside = (evaluate(each, configuration).risk_increase for each in (search.records, held))
                growth[-1][place] = outside - inside
    return np.array(growth)
