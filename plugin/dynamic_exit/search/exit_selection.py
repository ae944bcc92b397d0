"""Whether exits are worth their place behind savers, judged on samples that the search has not seen."""

from collections.abc import Sequence

import numpy as np

from ..chain.evaluation import evaluate
from ..chain.operating_point import Goal
from ..records import Records
from .optimism import FOLDS, folds
from .solver import Search

# beyond so many samples noise hides nothing that matters, and the search itself is right
_PLENTY = 20_000
_FEWEST = 100
# width of the piece of the savers' front that says what accuracy costs
_STEP = 0.01


def drop_unhelpful_exits(
    records: Records, goals: Sequence[Goal], *, fuse: str, max_savers: int | None, seed: int
) -> Records:
    """Return the records without exits, unless these pay behind savers.

    Many stages fit the noise of few samples better than few do, so that exits which only look cheaper get chosen. Both
    sets of stages are searched on all folds but one and compared on that one, at equal accuracy: what one of them loses
    counts as much as savers alone save by losing it. Exits stay where they are cheaper by more than the standard error.

    Args:
        records: The samples to search on.
        goals: What is wanted.
        fuse: As for the search.
        max_savers: As for the search.
        seed: Decides the folds.

    Returns:
        Records of all stages, or of savers and the final alone; all where there are no savers or no exits, or so many
        samples that noise does not matter.
    """
    kinds = dict(zip(records.stages, records.kinds, strict=True))
    savers = [stage for stage, kind in kinds.items() if kind == "saver"]
    if not savers or "exit" not in kinds.values() or not _FEWEST <= len(records) <= _PLENTY:
        return records
    alone = records.select(savers)
    dearer = _dearer(records, alone, goals, fuse, max_savers, seed)
    return records if dearer.mean() + dearer.std() / np.sqrt(FOLDS) < 0 else alone


def _dearer(
    records: Records, alone: Records, goals: Sequence[Goal], fuse: str, max_savers: int | None, seed: int
) -> np.ndarray:
    """By how much all stages are dearer than savers alone, as a share, in every fold on the mean over goals."""
    drops = [goal.max_accuracy_drop for goal in goals if goal.max_accuracy_drop is not None] or [0.0]
    steps = [Goal(max_accuracy_drop=min(1.0, float(np.mean(drops)) + side * _STEP / 2)) for side in (-1, 1)]
    options = {"max_savers": max_savers, "seed": seed, "restarts": 0}
    found = []
    for train, held in folds(len(records), seed):
        before = _costs_and_drops(alone, [*goals, *steps], train, held, fuse, options)
        after = _costs_and_drops(records, goals, train, held, fuse, options)
        found.append((before, after))
    befores = np.array([before for before, _ in found])
    afters = np.array([after for _, after in found])
    slope = max((befores[:, -2, 0] - befores[:, -1, 0]).mean() / _STEP, 0.0)
    apart = afters - befores[:, : len(goals)]
    return ((apart[:, :, 0] + slope * apart[:, :, 1]) / befores[:, : len(goals), 0].mean(0)).mean(1)


def _costs_and_drops(records: Records, goals, train, held, fuse: str, options) -> list[tuple[float, float]]:
    """Cost ratio and accuracy drop on the samples held out, per goal; of the backbone where nothing meets a goal."""
    search, rest = Search(records.take(train), fuse, **options), records.take(held)
    measured = []
    for found in search.run(goals):
        result = evaluate(rest, search.configuration(found)) if found else None
        measured.append((result.cost_ratio, result.accuracy_drop) if result else (1.0, 0.0))
    return measured
