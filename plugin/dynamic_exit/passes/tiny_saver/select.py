"""Which candidates answer first: the paper's rule for one saver, the chain search for several."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...chain.evaluation import Configuration, evaluate
from ...chain.operating_point import Goal
from ...chain.thresholds import ALWAYS_EXIT
from ...records import Records
from ...search.beam import shortlist
from ...search.optimizer import optimize
from ...search.options import SearchOptions
from .chance import no_better_than_chance

#: Suffix of the name of a stage that was fine-tuned as a saver.
FINE_TUNED_SUFFIX = ":finetuned"


@dataclass(frozen=True)
class SoloResult:
    """How one candidate did with the backbone behind it, on the calibration samples.

    Attributes:
        stage: Name of its stage.
        accuracy: Of the candidate alone, in 0..1.
        cost: Of the candidate alone, in the records' unit.
        answered: Share of samples that it answers at matched accuracy, in 0..1.
        cost_ratio: Cost of candidate and backbone together at matched accuracy, over the backbone's.
    """

    stage: str
    accuracy: float
    cost: float
    answered: float
    cost_ratio: float


@dataclass(frozen=True)
class Candidate:
    """A candidate's row in the table. What was not measured is None.

    Attributes:
        stage: Name of its stage.
        accuracy: Of the candidate alone, in 0..1.
        cost: Of the candidate alone, in the records' unit.
        answered: Share of samples that it answers at matched accuracy, with the backbone alone behind it, in 0..1.
        saving_alone: Share of the backbone's cost that this saves.
        saving_in_chain: By how much the best chain would be dearer without it, over the backbone's cost, out of the
            shortlist of a large pool; 0 where it is in no best chain.
        chosen: Whether it is in the chain.
        why: The reason, in a few words.
    """

    stage: str
    accuracy: float | None
    cost: float | None
    answered: float | None
    saving_alone: float | None
    saving_in_chain: float | None
    chosen: bool
    why: str


def skipped_candidate(stage: str, cost: float | None, why: str) -> Candidate:
    """Return the row of a candidate that was not run."""
    return Candidate(stage, None, cost, None, None, None, False, why)


def evaluate_alone(records: Records, stage: str, fuse: str = "none", seed: int = 0) -> SoloResult:
    """Try one candidate with the backbone behind it, at the backbone's own accuracy.

    Args:
        records: Savers and the final.
        stage: The candidate.
        fuse: ``none`` or ``mean``.
        seed: Decides the search's restarts.

    Returns:
        How it did.
    """
    pair = records.select([stage])
    (matched,) = optimize(pair, [Goal(max_accuracy_drop=0.0)], SearchOptions(fuse, 1, seed), crossfit=False)
    result = evaluate(pair, matched)
    alone = evaluate(pair, Configuration(((stage, ALWAYS_EXIT),)))
    answered = 1.0 - result.exit_rates[records.stages[-1]]
    return SoloResult(stage, alone.accuracy, alone.cost, answered, result.cost_ratio)


def select_savers(
    records: Records,
    max_savers: int = 2,
    fuse: str = "mean",
    max_accuracy_drop: float = 0.0,
    seed: int = 0,
    selection: str = "chain",
) -> list[Candidate]:
    """Rank candidates and choose savers, on samples that are not used for reporting.

    Args:
        records: Savers and the final, no exits.
        max_savers: Savers in the chain at most.
        fuse: ``none`` or ``mean``.
        max_accuracy_drop: Allowed drop for the chain search, in 0..1.
        seed: Decides the search's restarts.
        selection: ``single``: the rule of TinySaver (arXiv 2403.17726): at matched accuracy, the largest saving.
            ``chain``: the chain that the optimizer finds at `max_accuracy_drop`.

    Returns:
        All candidates, largest saving in the chain first, then the largest alone; `chosen` marks the savers to use.
        None is chosen where none saves anything. One that is no better than chance is never chosen, nor does what it
        seems to save count against another.
    """
    alone = [evaluate_alone(records, stage, fuse, seed) for stage in records.stages[:-1]]
    answers, truth = records.topk_classes[:-1, :, 0], records.truth
    chance = {each.stage: no_better_than_chance(row, truth) for each, row in zip(alone, answers, strict=True)}
    able = [each for each in alone if not chance[each.stage]]
    if not able:
        savings = {}
    elif selection == "single":
        savings = _single(able)
    else:
        savings = _chain(records.select([each.stage for each in able]), max_savers, fuse, max_accuracy_drop, seed)
    rows = [
        Candidate(
            stage=each.stage,
            accuracy=each.accuracy,
            cost=each.cost,
            answered=each.answered,
            saving_alone=1.0 - each.cost_ratio,
            saving_in_chain=savings.get(each.stage, 0.0),
            chosen=each.stage in savings,
            why=chance[each.stage] or _why(each, each.stage in savings, selection),
        )
        for each in alone
    ]
    return sorted(rows, key=lambda row: (-row.chosen, -row.saving_in_chain, -row.saving_alone, row.cost, row.stage))


def chain_ratio(
    records: Records, stages: Sequence[str], fuse: str, max_accuracy_drop: float, seed: int, selection: str
) -> float:
    """Return the cost of chosen savers with the backbone, over the backbone's alone, as `select_savers` looks at it.

    Args:
        records: Savers and the final.
        stages: The chosen savers.
        fuse: As for `select_savers`, as are the next three.
        max_accuracy_drop: Allowed drop.
        seed: Decides the search's restarts.
        selection: ``single`` or ``chain``.

    Returns:
        The cost over the backbone's.
    """
    pool = records.select(stages)
    goal = Goal(max_accuracy_drop=0.0 if selection == "single" else max_accuracy_drop)
    (best,) = optimize(pool, [goal], SearchOptions(fuse, seed=seed), crossfit=False)
    return evaluate(pool, best).cost_ratio


def _single(alone: Sequence[SoloResult]) -> dict[str, float]:
    """Return the best pair's saver with its lead over the second."""
    first, *others = sorted(alone, key=lambda each: (each.cost_ratio, each.stage))
    second = min([1.0, *(each.cost_ratio for each in others)])
    return {first.stage: second - first.cost_ratio} if first.cost_ratio < 1.0 else {}


def _chain(records: Records, max_savers: int, fuse: str, drop: float, seed: int) -> dict[str, float]:
    """Return the best chain's savers, each with what its absence would cost in a chain of the shortlist's others."""
    # stages chosen at the drop itself; their thresholds, tuned afterwards, leave room for what samples differ
    goals, options = [Goal(max_accuracy_drop=drop)], SearchOptions(fuse, max_savers, seed)

    def cheapest(pool: Records) -> tuple[list[str], float]:
        (best,) = optimize(pool, goals, options, crossfit=False)
        return [stage for stage, _ in best.stages], evaluate(pool, best).cost_ratio

    pool = shortlist(records, goals, options)
    stages, ratio = cheapest(pool)
    savings = {}
    for stage in stages:
        others = [each for each in pool.stages[:-1] if each != stage]
        savings[stage] = max(0.0, cheapest(pool.select(others))[1] - ratio)
    return savings


def _why(alone: SoloResult, chosen: bool, selection: str) -> str:
    if selection == "chain":
        return "in the best chain" if chosen else "in no best chain"
    if chosen:
        return "largest saving at matched accuracy"
    return "saves nothing at matched accuracy" if alone.cost_ratio >= 1.0 else "another saves more"
