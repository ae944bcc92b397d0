"""The choice of savers: the paper's rule for a single one, the chain search for several."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...chain.evaluation import evaluate
from ...chain.thresholds import ALWAYS_EXIT, Configuration
from ...core.chance import no_better_than_chance
from ...errors import TuningError
from ...points.goal import Goal
from ...records import Records
from ...search.beam import shortlist
from ...search.options import SearchOptions
from ...tuning.optimizer import optimize

MATCHED = Goal(max_accuracy_drop=0.0)


@dataclass(frozen=True)
class SoloResult:
    """How one candidate did with the backbone alone behind it, on the calibration samples.

    Attributes:
        stage: Name of its stage.
        accuracy: Of the candidate by itself, in 0..1.
        cost: Of the candidate by itself, in the records' unit.
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
    """A row of the table of candidates; what was not measured is None.

    Attributes:
        stage: Name of its stage.
        accuracy: Of the candidate by itself, in 0..1.
        cost: Of the candidate by itself, in the records' unit.
        answered: Share of samples that it answers at matched accuracy with the backbone alone behind it, in 0..1.
        saving_alone: Share of the backbone's cost that this saves.
        saving_in_chain: How much more the best chain of the other candidates costs, over the backbone's cost; out of a
            large pool, of the other candidates on the shortlist. 0 if it is not in the best chain; None where the goal
            is a budget, which the best chain spends.
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


def evaluate_alone(records: Records, stage: str, options: SearchOptions) -> SoloResult:
    """Evaluate one candidate with the backbone behind it, at the backbone's own accuracy.

    Args:
        records: Savers and the final.
        stage: The candidate.
        options: Of the search.
    """
    pair = records.select([stage])
    (matched,) = optimize(pair, [MATCHED], options, crossfit=False)
    result = evaluate(pair, matched)
    alone = evaluate(pair, Configuration(((stage, ALWAYS_EXIT),)))
    answered = 1.0 - result.exit_rates[records.stages[-1]]
    return SoloResult(stage, alone.accuracy, alone.cost, answered, result.cost_ratio)


def select_savers(
    records: Records,
    options: SearchOptions,
    goal: Goal = MATCHED,
    selection: str = "chain",
) -> list[Candidate]:
    """Rank candidates and choose savers, on samples that are not used for reporting.

    Args:
        records: Savers and the final, no exits.
        options: Of the search.
        goal: Of the chain search: an allowed drop, or a budget.
        selection: ``single``: the rule of TinySaver (arXiv 2403.17726), the largest saving at matched accuracy.
            ``chain``: the chain that the optimizer finds for the goal.

    Returns:
        All candidates, those in the chain first, by their saving in the chain (for a budget: by what the best chain
        without them gets wrong), then by their saving alone. None is chosen if none saves anything. A candidate that is
        no better than chance is never chosen, and its apparent saving does not count against another.
    """
    goal = MATCHED if selection == "single" else goal
    results = [evaluate_alone(records, stage, options) for stage in records.stages[:-1]]
    answers, truth = records.topk_classes[:-1, :, 0], records.truth
    chance = {each.stage: no_better_than_chance(row, truth) for each, row in zip(results, answers, strict=True)}
    able = [each for each in results if not chance[each.stage]]
    savings: dict[str, float] = {}
    if able and selection == "single":
        savings = _single_savings(able)
    elif able:
        savings = _chain_savings(records.select([each.stage for each in able]), options, goal)

    def rank(result: SoloResult) -> tuple[float | str, ...]:
        chosen, in_chain = result.stage in savings, savings.get(result.stage, 0.0)
        return -chosen, -in_chain, -(1.0 - result.cost_ratio), result.cost, result.stage

    return [
        Candidate(
            stage=each.stage,
            accuracy=each.accuracy,
            cost=each.cost,
            answered=each.answered,
            saving_alone=1.0 - each.cost_ratio,
            saving_in_chain=savings.get(each.stage, 0.0) if goal.budget is None else None,
            chosen=each.stage in savings,
            why=chance[each.stage] or _why(each, each.stage in savings, selection),
        )
        for each in sorted(results, key=rank)
    ]


def chain_badness(records: Records, stages: Sequence[str], options: SearchOptions, goal: Goal, selection: str) -> float:
    """Return how far chosen savers with the backbone are from the best, as `select_savers` measures it.

    Args:
        records: Savers and the final.
        stages: The chosen savers.
        options: As for `select_savers`.
        goal: As for `select_savers`.
        selection: As for `select_savers`.

    Returns:
        The cost over the backbone's alone; for a budget the share of wrong answers, 1 where nothing fits it.
    """
    return _best_chain(records.select(stages), MATCHED if selection == "single" else goal, options)[1]


def _single_savings(results: Sequence[SoloResult]) -> dict[str, float]:
    """Return the saver of the best pair with its lead over the second best."""
    first, *others = sorted(results, key=lambda each: (each.cost_ratio, each.stage))
    second = min([1.0, *(each.cost_ratio for each in others)])
    return {first.stage: second - first.cost_ratio} if first.cost_ratio < 1.0 else {}


def _chain_savings(records: Records, options: SearchOptions, goal: Goal) -> dict[str, float]:
    """Return the savers of the best chain, each with how much worse the best chain without it is."""
    pool = shortlist(records, [goal], options)
    stages, badness = _best_chain(pool, goal, options)
    savings = {}
    for stage in stages:
        others = [each for each in pool.stages[:-1] if each != stage]
        savings[stage] = max(0.0, _best_chain(pool.select(others), goal, options)[1] - badness)
    return savings


def _best_chain(pool: Records, goal: Goal, options: SearchOptions) -> tuple[list[str], float]:
    """Return the savers of the best chain and its badness, as `chain_badness` does."""
    # stages are chosen at the goal itself; their thresholds are tuned later, with a margin for other samples
    try:
        (best,) = optimize(pool, [goal], options, crossfit=False)
    except TuningError:
        if goal.budget is None:
            raise
        return [], 1.0  # nothing in the pool is as cheap as that
    figures = evaluate(pool, best)
    badness = figures.cost_ratio if goal.budget is None else 1 - figures.accuracy
    return [stage for stage, _ in best.stages], badness


def _why(result: SoloResult, chosen: bool, selection: str) -> str:
    if selection == "chain":
        return "in the best chain" if chosen else "in no best chain"
    if chosen:
        return "largest saving at matched accuracy"
    return "saves nothing at matched accuracy" if result.cost_ratio >= 1.0 else "another saves more"
