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
from .search import Found, Search

#: Parts of the samples, each of which is left out in turn.
FOLDS = 5
# the fewer the samples, the noisier one round of folds is, and the cheaper another
_FEW = 5_000
_REPEATS_OF_FEW = 3
_REPEATS = 2
# beyond so many samples the correction is smaller than what it costs to find it
_PLENTY = 200_000
_FEWEST = 20
# allowances around the wanted one at which the optimism is measured, in standard errors of the drop: it hardly differs
# between them, so their mean is less noisy than any
_LEVELS = (-0.25, 0.75)
_MOST = 3.0
# what is tried in turn where the full correction asks for more than any configuration gives
_PARTS = (1.0, 0.75, 0.5, 0.25, 0.0)


def optimism(records: Records, goals: Sequence[Goal], *, fuse: str, max_savers: int | None, seed: int) -> float:
    """Return by how much the accuracy drop grows from the samples searched to others, on average.

    Args:
        records: The samples to search on.
        goals: What is wanted; those that allow a drop count.
        fuse: As for the search.
        max_savers: As for the search.
        seed: Decides the folds.

    Returns:
        A share of 0 or more; 0 where samples are so many that it does not matter.
    """
    samples = len(records)
    wanted = [goal for goal in goals if goal.max_accuracy_drop is not None]
    if not wanted or samples > _PLENTY or samples < _FEWEST or len(records.stages) < 2:
        return 0.0
    error = _standard_error(records, wanted, fuse, max_savers, seed)
    levels = {min(1.0, max(-1.0, g.max_accuracy_drop - step * error)) for g in wanted for step in _LEVELS}
    growth = _growth(records, [Goal(max_accuracy_drop=level) for level in sorted(levels)], fuse, max_savers, seed)
    growth = growth[np.isfinite(growth)]
    # each fold's search had four fifths of the samples, so that this is a little too much rather than too little
    return float(np.clip(growth.mean(), 0.0, _MOST * error)) if len(growth) else 0.0


def folds(samples: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield which samples are searched and which are left out, bool (samples,) each; several rounds of `FOLDS`."""
    for repeat in range(_REPEATS_OF_FEW if samples <= _FEW else _REPEATS):
        fold = np.random.default_rng([seed, repeat]).permutation(samples) % FOLDS
        for out in range(FOLDS):
            yield fold != out, fold == out


def careful_run(search: Search, goals: Sequence[Goal], growth: float) -> list[Found | None]:
    """Search for goals that leave room for the optimism.

    Args:
        search: The search on all samples.
        goals: What is wanted on samples that the search has not seen.
        growth: The optimism.

    Returns:
        The best found per goal, with as much of the room as any configuration leaves; budgets need none, since costs
        hardly fit noise. None where nothing meets the goal.
    """
    best: list[Found | None] = [None] * len(goals)
    for part in _PARTS:
        missing = [place for place, found in enumerate(best) if found is None or not found.stages]
        if not missing:
            break
        asked = [_stricter(goals[place], part * growth) for place in missing]
        for place, found in zip(missing, search.run(asked), strict=True):
            best[place] = found if found is not None else best[place]
    return best


def _stricter(goal: Goal, by: float) -> Goal:
    if goal.max_accuracy_drop is None:
        return goal
    return Goal(max_accuracy_drop=max(-1.0, goal.max_accuracy_drop - by))


def _standard_error(records: Records, goals: Sequence[Goal], fuse: str, max_savers: int | None, seed: int) -> float:
    # of the drop: only samples on which backbone and dynamic answer differ in being right count
    search = Search(records, fuse, max_savers=max_savers, seed=seed, polished=1, restarts=0)
    alone = records.topk_classes[-1, :, 0] == records.truth
    shares = [0.0]
    for found in search.run(goals):
        if found is not None:
            right = evaluate(records, search.configuration(found)).prediction == records.truth
            shares.append(float((right != alone).mean()))
    return float(np.sqrt(max(max(shares), 1 / len(records)) / len(records)))


def _growth(records: Records, goals: Sequence[Goal], fuse: str, max_savers: int | None, seed: int) -> np.ndarray:
    # per goal, the drop on samples left out less the drop on those searched
    inside, outside, counts = np.zeros((3, len(goals)))
    for searched, left in folds(len(records), seed):
        train, held = records.take(searched), records.take(left)
        # as many chains as in the search itself, whose choice among them fits noise as well
        search = Search(train, fuse, max_savers=max_savers, seed=seed, restarts=0)
        for place, found in enumerate(search.run(goals)):
            if found is None:
                continue
            configuration = search.configuration(found)
            inside[place] += evaluate(train, configuration).accuracy_drop * len(held)
            outside[place] += evaluate(held, configuration).accuracy_drop * len(held)
            counts[place] += len(held)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, (outside - inside) / np.maximum(counts, 1), np.nan)
