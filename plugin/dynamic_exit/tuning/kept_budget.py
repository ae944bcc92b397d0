"""A budget for the search, such that the mean cost keeps another one on other samples too."""

from typing import NamedTuple

from ..chain.evaluation import evaluate
from ..errors import TuningError
from ..guarantee.drop_checks import MAX_STANDARD_ERRORS
from ..points.goal import Goal
from ..records import Records
from ..search.options import SearchOptions
from ..search.targets import ROUNDING
from .optimizer import optimize

# searches for a budget
_TRIALS = 10


class KeptBudget(NamedTuple):
    """What is searched with to keep a budget, over the backbone's cost, and the accuracy on the samples searched."""

    budget: float
    accuracy: float


def keep_budget(records: Records, budget: float, options: SearchOptions) -> KeptBudget:
    """Find the largest budget for the search whose mean cost keeps the wanted one by two standard errors.

    Where few samples reach a backbone that costs many times the budget, their share on other samples is far from known.

    Args:
        records: The samples searched.
        budget: What is to be kept, over the backbone's cost.
        options: Of the search.

    Raises:
        TuningError: Nothing keeps it.
    """
    kept, high, trial = None, budget, budget
    for _ in range(_TRIALS):
        (configuration,) = optimize(records, [Goal(budget=trial)], options)
        found = evaluate(records, configuration)
        most = found.cost_ratio + MAX_STANDARD_ERRORS * found.cost_ratio_error
        if most <= budget * (1 + ROUNDING):
            kept = KeptBudget(trial, found.accuracy)
            if trial == budget:
                break
        else:
            high = trial
        trial = (kept.budget + high) / 2 if kept else min(high, found.cost_ratio) * budget / most
    if kept is None:
        raise TuningError(f"nothing keeps a budget of {budget:g} of the backbone's cost by two standard errors")
    return kept
