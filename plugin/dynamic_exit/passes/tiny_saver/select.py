"""Which candidates answer first: the paper's rule for one saver, the chain search for several."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...records import Records
from ...tuning.evaluation import Configuration, evaluate
from ...tuning.optimizer import Goal, optimize

#: A threshold that every confidence is above.
ALWAYS = -1.0


@dataclass(frozen=True)
class Candidate:
    """How one candidate did on the calibration samples.

    Attributes:
        stage: Name of its stage.
        accuracy: Of the candidate alone, in 0..1.
        cost: Of the candidate alone, in the records' unit.
        answered: Share of samples that it answers at matched accuracy, in 0..1.
        cost_ratio: Cost of candidate and backbone together at matched accuracy, over the backbone's.
        chosen: Whether it is in the chain.
        why: The reason, in a few words.
    """

    stage: str
    accuracy: float
    cost: float
    answered: float
    cost_ratio: float
    chosen: bool
    why: str


def select_savers(
    records: Records, max_savers: int, fuse: str = "none", max_accuracy_drop: float = 0.0, seed: int = 0
) -> list[Candidate]:
    """Rank candidates and choose savers, on samples that are not used for reporting.

    With `max_savers` = 1 this is the rule of TinySaver (arXiv 2403.17726): at matched accuracy, the largest saving.
    With more, the chain search of the optimizer decides at `max_accuracy_drop`.

    Args:
        records: Savers and the final, no exits.
        max_savers: Savers in the chain at most.
        fuse: ``none`` or ``mean``.
        max_accuracy_drop: Allowed drop for the chain search, in 0..1.
        seed: Decides the search's restarts.

    Returns:
        All candidates, cheapest pair with the backbone first; `chosen` marks the savers to use. None is chosen where
        none saves anything.
    """
    final = records.stages[-1]
    rows = []
    for stage in records.stages[:-1]:
        pair = records.select([stage, final])
        (matched,) = optimize(pair, [Goal(max_accuracy_drop=0.0)], fuse=fuse, max_savers=1, seed=seed, crossfit=False)
        result = evaluate(pair, matched)
        alone = evaluate(pair, Configuration(((stage, ALWAYS),)))
        rows.append((result.cost_ratio, stage, alone.accuracy, alone.cost, 1.0 - result.exit_rates[final]))
    rows.sort()
    chosen = _chain(records, rows, max_savers, fuse, max_accuracy_drop, seed)
    return [
        Candidate(stage, accuracy, cost, answered, ratio, stage in chosen, _why(stage, ratio, chosen, max_savers))
        for ratio, stage, accuracy, cost, answered in rows
    ]


def _chain(records: Records, rows: Sequence[tuple], max_savers: int, fuse: str, drop: float, seed: int) -> set[str]:
    if max_savers == 1:
        return {rows[0][1]} if rows and rows[0][0] < 1.0 else set()
    (best,) = optimize(records, [Goal(max_accuracy_drop=drop)], fuse=fuse, max_savers=max_savers, seed=seed)
    return {stage for stage, _ in best.stages}


def _why(stage: str, ratio: float, chosen: set[str], max_savers: int) -> str:
    if stage in chosen:
        return "largest saving at matched accuracy" if max_savers == 1 else "in the best chain"
    return "saves nothing at matched accuracy" if ratio >= 1.0 else "another saves more"
