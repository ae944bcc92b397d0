import numpy as np
import pytest
from instances import exits

from dynamic_exit.search.local_search import Exchange
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.outcomes import OutcomeCache
from dynamic_exit.search.targets import CountTarget
from dynamic_exit.search.thresholds import polish, score


def weak_start(chains: OutcomeCache, stages: tuple[int, ...], target: CountTarget):
    chain = chains.chain(stages)
    return polish(chain, target, score(chain, np.ones(len(stages), dtype=np.float32)))


@pytest.mark.parametrize("seed", range(5))
def test_an_exchange_keeps_the_goal_and_never_costs_more(seed):
    records = exits(seed, 400, positions=3, heads=2)
    chains = OutcomeCache(records, "none")
    target = CountTarget(correct=float(chains.baseline_correct - 4))
    for stages in [(0,), (1, 3), (0, 2, 4)]:
        start = weak_start(chains, stages, target)
        found, fit = Exchange(chains, chains.table, SearchOptions("none")).improve(target, stages, start)
        assert fit.correct >= target.correct and fit.cost <= start.cost
        counted = score(chains.chain(found), fit.thresholds)
        assert (counted.correct, counted.cost) == (fit.correct, pytest.approx(fit.cost))


@pytest.mark.parametrize("seed", range(5))
def test_the_better_head_of_a_position_takes_the_place_of_a_worse_one(seed):
    records = exits(seed, 2_000, positions=2, heads=1)
    # stage 0 again, as another head of its position: as sure, but of the next class in every third sample
    worse = np.array(records.topk_classes[:1])
    worse[:, ::3] = (worse[:, ::3] + 1) % 10
    spoilt = type(records)(
        labels=records.labels,
        stages=("worse", *records.stages),
        kinds=("exit", *records.kinds),
        positions=np.array([records.positions[0], *records.positions]),
        topk_classes=np.concatenate([worse, records.topk_classes]),
        topk_probabilities=np.concatenate([records.topk_probabilities[:1], records.topk_probabilities]),
        own_cost=np.array([records.own_cost[0], *records.own_cost]),
        prefix_cost=np.array([records.prefix_cost[0], *records.prefix_cost]),
        cost_unit=records.cost_unit,
    )
    chains = OutcomeCache(spoilt, "none")
    target = CountTarget(correct=float(chains.baseline_correct - 20))
    start = weak_start(chains, (0, 2), target)
    found, fit = Exchange(chains, chains.table, SearchOptions("none")).improve(target, (0, 2), start)
    assert 0 not in found and fit.cost < start.cost
    assert fit.cost == pytest.approx(weak_start(chains, (1, 2), target).cost, rel=0.01)
