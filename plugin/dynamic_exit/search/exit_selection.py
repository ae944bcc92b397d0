"""Whether exits pay off behind savers, judged on samples that the search has not seen."""

from collections.abc import Sequence

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.goal import Goal
from ..records import Records
from .options import SearchOptions
from .solver import Search
from .splits import FOLDS, folds

# with more samples noise hides nothing that matters, and the search itself is right
_MAX_SAMPLES = 20_000
_MIN_SAMPLES = 100
# width, in accuracy drop, of the piece of the savers' front that tells what accuracy costs
_STEP = 0.01


def drop_unhelpful_exits(records: Records, goals: Sequence[Goal], options: SearchOptions) -> Records:
    """Return the records without exits, unless these pay off behind savers.

    Many stages fit the noise of few samples better than few do, so exits that only look cheaper get chosen. Both sets
    of stages are searched on all folds but one and compared on that one, at equal accuracy: what one of them loses
    counts as much as savers alone save by losing it. Exits stay if they are cheaper by more than the standard error.

    Args:
        records: The samples to search on.
        goals: What to reach.
        options: Of the search.

    Returns:
        Records of all stages, or of savers and the final alone; all if there are no savers or no exits, or so many
        samples that noise does not matter.
    """
    table = records.stage_table
    if not table.savers or not table.exits or not _MIN_SAMPLES <= len(records) <= _MAX_SAMPLES:
        return records
    savers_only = records.select([records.stages[s] for s in table.savers])
    extra_cost = _extra_cost(records, savers_only, goals, options.without_restarts())
    return records if extra_cost.mean() + extra_cost.std() / np.sqrt(FOLDS) < 0 else savers_only


def _extra_cost(records: Records, savers_only: Records, goals: Sequence[Goal], options: SearchOptions) -> np.ndarray:
    """Return the extra cost of all stages over savers alone, as a share, per fold, averaged over goals."""
    drops = [goal.max_accuracy_drop for goal in goals if goal.max_accuracy_drop is not None] or [0.0]
    steps = [Goal(max_accuracy_drop=min(1.0, float(np.mean(drops)) + side * _STEP / 2)) for side in (-1, 1)]
    befores, afters = [], []
    for train, held in folds(len(records), options.seed):
        befores.append(_costs_and_drops(savers_only, [*goals, *steps], train, held, options))
        afters.append(_costs_and_drops(records, goals, train, held, options))
    before, after = np.array(befores), np.array(afters)
    slope = max((before[:, -2, 0] - before[:, -1, 0]).mean() / _STEP, 0.0)
    apart = after - before[:, : len(goals)]
    return ((apart[:, :, 0] + slope * apart[:, :, 1]) / before[:, : len(goals), 0].mean(0)).mean(1)


def _costs_and_drops(
    records: Records, goals: Sequence[Goal], train: np.ndarray, held: np.ndarray, options: SearchOptions
) -> list[tuple[float, float]]:
    """Return cost ratio and accuracy drop on the held-out samples, per goal; the backbone's if nothing meets a goal."""
    search, rest = Search(records.take(train), options), records.take(held)
    measured = []
    for found in search.run(goals):
        result = evaluate(rest, search.configuration(found)) if found else None
        measured.append((result.cost_ratio, result.accuracy_drop) if result else (1.0, 0.0))
    return measured
