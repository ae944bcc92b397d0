"""A budget that is kept with two standard errors to spare, and so on samples that the search has not seen."""

import numpy as np
import pytest
from instances import savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.errors import TuningError
from dynamic_exit.points.goal import Goal
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.tuning.kept_budget import keep_budget
from dynamic_exit.tuning.optimizer import optimize

OPTIONS, BUDGET = SearchOptions("none", 2), 0.15


def test_what_is_kept_holds_on_other_samples_where_the_plain_budget_does_not():
    beyond = np.zeros(2, int)
    for seed in range(8):
        records = savers(seed, 2000)
        searched, others = records.take(slice(0, 200)), records.take(slice(200, None))
        kept = keep_budget(searched, BUDGET, OPTIONS)
        plain, careful = (optimize(searched, [Goal(budget=each)], OPTIONS)[0] for each in (BUDGET, kept.budget))
        found = evaluate(searched, careful)
        assert found.cost_ratio + 2 * found.cost_ratio_error <= BUDGET * (1 + 1e-6)
        assert kept.accuracy == found.accuracy <= evaluate(searched, plain).accuracy
        assert kept.budget >= 0.6 * BUDGET, "no more is given away than it takes"
        beyond += [evaluate(others, each).cost_ratio > BUDGET for each in (plain, careful)]
    assert beyond[1] <= 1 and beyond[0] >= 3


def test_the_error_of_a_mean_cost_is_that_of_its_samples():
    records = savers(1, 500)
    (configuration,) = optimize(records, [Goal(budget=BUDGET)], OPTIONS)
    found = evaluate(records, configuration)
    used = [records.index(stage) for stage, _ in configuration.stages]
    paid = {stage: records.own_cost[used[: place + 1]].sum() for place, stage in enumerate(used)}
    paid[len(records.stages) - 1] = records.own_cost[used].sum() + records.baseline_cost
    each = np.array([paid[stage] for stage in found.exit_index]) / records.baseline_cost
    assert found.cost_ratio == pytest.approx(each.mean())
    assert found.cost_ratio_error == pytest.approx(each.std() / np.sqrt(500))


def test_a_budget_below_every_stage_is_refused():
    with pytest.raises(TuningError, match="no stage fits a budget of 0.001 of the backbone's cost"):
        keep_budget(savers(1, 200), 0.001, OPTIONS)
