"""Goals at the accuracy of simpler searches cost no more than theirs, on the samples that all search."""

import numpy as np
import pytest
from instances import exits

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.points.goal import Goal
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.outcomes import OutcomeCache
from dynamic_exit.search.tradeoff import TradeoffPath
from dynamic_exit.tuning.optimizer import optimize

HEADS = 6


def one_pass(records, multiplier: float, random: np.random.Generator) -> list[tuple[str, float]]:
    """From left to right, at each position the best of some random thresholds of every head, those behind it off."""
    chosen: list[tuple[str, float]] = []
    for first in range(0, len(records.stages) - 1, HEADS):
        options = [chosen]
        for name in records.stages[first : first + HEADS]:
            options += [[*chosen, (name, float(np.float32(t)))] for t in random.random(4)]
        figures = [evaluate(records, Configuration(tuple(option), "none")) for option in options]
        chosen = options[int(np.argmax([e.accuracy - multiplier * e.cost_ratio for e in figures]))]
    return chosen


@pytest.mark.parametrize("seed", range(3))
def test_no_simpler_search_is_cheaper(seed):
    random = np.random.default_rng(seed)
    records = exits(seed, 400, positions=5, heads=HEADS)
    last = records.stages[HEADS - 1 : -1 : HEADS]
    simpler = [one_pass(records, multiplier, random) for multiplier in (0.7, 0.9, 1.2, 1.5, 2, 3)]
    simpler += [[(name, 0.6) for name in last], [(last[0], 0.3)], [(last[-1], 0.5)]]
    figures = [evaluate(records, Configuration(tuple(chosen), "none")) for chosen in simpler]
    goals = [Goal(max_accuracy_drop=e.accuracy_drop) for e in figures]
    found = optimize(records, goals, SearchOptions(fuse="none", seed=seed), crossfit=False)
    for theirs, ours in zip(figures, (evaluate(records, each) for each in found), strict=True):
        assert ours.accuracy >= theirs.accuracy - 1e-12
        assert ours.cost <= theirs.cost * (1 + 1e-9)


def test_stages_are_chosen_on_all_samples():
    # a path begins on a part of the samples, where another head may seem best
    records = exits(1, 12_000, positions=1, heads=5)
    path = TradeoffPath(OutcomeCache(records, "none"))
    assert len(path.final_correct) < len(records)
    final = records.topk_classes[-1, :, 0] == records.truth
    for point in path.convex_front(8):
        best = float(final.sum()) - point.multiplier * len(records)
        for head in range(5):
            order = np.argsort(-records.topk_probabilities[head, :, 0], kind="stable")
            gain = (records.topk_classes[head, :, 0] == records.truth).astype(float) - final
            saved = records.prefix_cost[-1] - records.prefix_cost[head]
            leaving = np.cumsum(gain[order] + point.multiplier * saved)
            base = final.sum() - point.multiplier * len(records) * (records.prefix_cost[-1] + records.own_cost[head])
            best = max(best, base + leaving.max())
        found = path.exact(point)
        assert found.correct - found.multiplier * found.cost == pytest.approx(best, rel=1e-9, abs=1e-6)
