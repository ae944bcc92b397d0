"""How much better a search looks on its own samples than on others, and the allowance that makes up for it.

Thresholds and stages chosen on few samples fit their noise. Searching on all folds but one and measuring on that one
shows by how much the accuracy drop grows on samples that the search has not seen; the same search on all samples is
then asked for that much less. Both measurements are on the same samples, so most of their own noise cancels.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.operating_point import Goal
from ..records import Records
from .solver import Search

#: Parts of the samples, each of which is left out in turn.
FOLDS = 5
# the fewer the samples, the noisier one round of folds is, and the cheaper another
_FEW = 5_000
_REPEATS_OF_FEW = 3
_REPEATS = 2
# beyond so many samples the correction is smaller than what it costs to find it
_PLENTY = 200_000
_FEWEST = 20
# allowances around the wanted one at which the optimism is measured, in standard errors of the drop: the mean of two is
# less noisy than either. Folds on which nothing saves at an allowance say nothing about it and are left out.
_LEVELS = (-0.25, 0.75)
_MOST = 3.0


def estimate_optimism(
    records: Records, goals: Sequence[Goal], *, fuse: str, max_savers: int | None, seed: int
) -> list[float]:
    """Return by how much the accuracy drop grows from the samples searched to others, on average.

    Args:
        records: The samples to search on.
        goals: What is wanted; those that allow a drop count.
        fuse: As for the search.
        max_savers: As for the search.
        seed: Decides the folds.

    Returns:
        A share of 0 or more per goal: that of all goals together, as far as the folds do not tell them apart; 0 for
        budgets, and where samples are so many that it does not matter.
    """
    samples, found = len(records), [0.0] * len(goals)
    places = [place for place, goal in enumerate(goals) if goal.max_accuracy_drop is not None]
    if not places or samples > _PLENTY or samples < _FEWEST or len(records.stages) < 2:
        return found
    wanted = [goals[place] for place in places]
    errors = _standard_errors(records, wanted, fuse, max_savers, seed)
    levels = [
        [min(1.0, max(-1.0, goal.max_accuracy_drop - step * error)) for step in _LEVELS]
        for goal, error in zip(wanted, errors, strict=True)
    ]
    every = sorted({level for each in levels for level in each})
    measured = _growth(records, [Goal(max_accuracy_drop=level) for level in every], fuse, max_savers, seed)
    at_goal = np.stack([_known_mean(measured[:, [every.index(level) for level in each]], 1) for each in levels], 1)
    saves = np.isfinite(at_goal).any(0)
    if not saves.any():
        return found
    # each fold's search had four fifths of the samples, so that this is a little too much rather than too little
    optimism = np.full(len(wanted), np.nan)
    optimism[saves] = np.clip(_pooled(at_goal[:, saves]), 0.0, _MOST * np.array(errors)[saves])
    # nothing saves at so small a drop on four fifths of the samples: what is found on all fits noise as the others do
    optimism[~saves] = optimism[saves].max()
    for place, each in zip(places, optimism, strict=True):
        found[place] = float(each)
    return found


def _pooled(optimism: np.ndarray) -> np.ndarray:
    """Pull each goal's growth towards that of all goals, the more the less the folds tell them apart.

    A goal keeps its distance d from the mean by the share 1 - e² / d², for d's standard error e over the folds (the
    positive part of James and Stein's estimator).

    Args:
        growth: (folds, goals), NaN where nothing saves.

    Returns:
        Growth (goals,).
    """
    apart = optimism - _known_mean(optimism, 1)[:, None]
    every = _known_mean(optimism, 0).mean()
    distance = _known_mean(optimism, 0) - every
    # rounds of folds share their samples: another round makes the mean hardly more certain
    square = _known_mean((apart - _known_mean(apart, 0)) ** 2, 0) / FOLDS
    kept = np.maximum(0.0, 1 - square / np.maximum(distance**2, 1e-12))
    return every + kept * distance


def _known_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean of what is no NaN; NaN where all are."""
    known = np.isfinite(values)
    counts = known.sum(axis)
    return np.where(counts > 0, np.where(known, values, 0.0).sum(axis) / np.maximum(counts, 1), np.nan)


def folds(samples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield which samples are searched and which are left out, bool (samples,) each; several rounds of `FOLDS`."""
    for repeat in range(_REPEATS_OF_FEW if samples <= _FEW else _REPEATS):
        fold = np.random.default_rng([seed, repeat]).permutation(samples) % FOLDS
        for out in range(FOLDS):
            yield fold != out, fold == out


def _standard_errors(
    records: Records, goals: Sequence[Goal], fuse: str, max_savers: int | None, seed: int
) -> list[float]:
    # of the drop per goal: only samples on which backbone and dynamic answer differ in being right count
    search = Search(records, fuse, max_savers=max_savers, seed=seed, polished=1, restarts=0)
    alone = records.topk_classes[-1, :, 0] == records.truth
    shares = [0.0] * len(goals)
    for place, found in enumerate(search.run(goals)):
        if found is not None:
            correct = evaluate(records, search.configuration(found)).prediction == records.truth
            shares[place] = float((correct != alone).mean())
    return [float(np.sqrt(max(share, 1 / len(records)) / len(records))) for share in shares]


def _growth(records: Records, goals: Sequence[Goal], fuse: str, max_savers: int | None, seed: int) -> np.ndarray:
    # per fold and goal, the drop on samples left out less the drop on those searched; NaN where nothing saves
    optimism = []
    for searched, left in folds(len(records), seed):
        train, held = records.take(searched), records.take(left)
        # as many chains as in the search itself, whose choice among them fits noise as well
        search = Search(train, fuse, max_savers=max_savers, seed=seed, restarts=0)
        optimism.append([np.nan] * len(goals))
        for place, found in enumerate(search.run(goals)):
            configuration = search.configuration(found) if found is not None else None
            if configuration is not None and configuration.stages:
                inside, outside = (evaluate(each, configuration).accuracy_drop for each in (train, held))
                optimism[-1][place] = outside - inside
    return np.array(optimism)
