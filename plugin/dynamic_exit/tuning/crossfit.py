"""How much better a search looks on its own samples than on others, and the allowance that makes up for it.

Thresholds and stages chosen on few samples fit their noise. Searching on all folds but one and measuring on that one
shows by how much the accuracy drop grows on samples that the search has not seen; the same search on all samples is
then asked for that much less. Both measurements are on the same samples, so most of their own noise cancels.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ..records import Records
from .evaluation import evaluate
from .operating_point import Goal
from .search import Search

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


def optimism(records: Records, goals: Sequence[Goal], *, fuse: str, max_savers: int | None, seed: int) -> list[float]:
    """Return by how much the accuracy drop grows from the samples searched to others, on average.

    Args:
        records: The samples to search on.
        goals: What is wanted; those that allow a drop count.
        fuse: As for the search.
        max_savers: As for the search.
        seed: Decides the folds.

    Returns:
        A share of 0 or more per goal, which other goals hardly move; 0 for budgets, and where samples are so many that
        it does not matter.
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
    growth = dict(zip(every, measured, strict=True))
    # each fold's search had four fifths of the samples, so that this is a little too much rather than too little
    for place, each, error in zip(places, levels, errors, strict=True):
        known = [growth[level] for level in each if np.isfinite(growth[level])]
        found[place] = float(np.clip(np.mean(known), 0.0, _MOST * error)) if known else np.nan
    # nothing saves at so small a drop on four fifths of the samples: what is found on all fits noise as the others do
    rest = max((found[place] for place in places if np.isfinite(found[place])), default=0.0)
    return [rest if np.isnan(each) else each for each in found]


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
            right = evaluate(records, search.configuration(found)).prediction == records.truth
            shares[place] = float((right != alone).mean())
    return [float(np.sqrt(max(share, 1 / len(records)) / len(records))) for share in shares]


def _growth(records: Records, goals: Sequence[Goal], fuse: str, max_savers: int | None, seed: int) -> np.ndarray:
    # per goal, the drop on samples left out less the drop on those searched
    inside, outside, counts = np.zeros((3, len(goals)))
    for searched, left in folds(len(records), seed):
        train, held = records.take(searched), records.take(left)
        # as many chains as in the search itself, whose choice among them fits noise as well
        search = Search(train, fuse, max_savers=max_savers, seed=seed, restarts=0)
        for place, found in enumerate(search.run(goals)):
            configuration = search.configuration(found) if found is not None else None
            if configuration is None or not configuration.stages:
                continue
            inside[place] += evaluate(train, configuration).accuracy_drop * len(held)
            outside[place] += evaluate(held, configuration).accuracy_drop * len(held)
            counts[place] += len(held)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, (outside - inside) / np.maximum(counts, 1), np.nan)
