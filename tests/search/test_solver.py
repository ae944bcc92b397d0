from dataclasses import replace

import numpy as np
import pytest
from instances import brute_force, exits, random_records, savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import TuningError
from dynamic_exit.points.goal import Goal
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.solver import Search
from dynamic_exit.tuning.optimizer import front, optimize


@pytest.mark.parametrize("batch", range(10))
def test_small_cases_are_solved_as_by_brute_force(batch):
    for seed in range(30 * batch, 30 * batch + 30):
        random = np.random.default_rng(seed)
        stages = 1 + seed % 3
        samples = int(random.integers(2, 41 if stages < 3 else 25))
        records = random_records(seed, samples, stages, ties=seed % 4 == 0)
        correct, cost = brute_force(records)
        base = evaluate(records, Configuration()).accuracy
        drop = float(random.choice([0.0, 0.05, 0.1, 0.3]))
        budget = float(random.uniform(1.02 * cost.min(), 1.0))
        found = optimize(
            records, [Goal(max_accuracy_drop=drop), Goal(budget=budget)], SearchOptions(fuse="none"), crossfit=False
        )
        cheap, accurate = (evaluate(records, configuration) for configuration in found)
        needed = np.ceil((base - drop) * samples - 1e-9)
        assert round(cheap.accuracy * samples) >= needed
        assert cheap.cost == pytest.approx(cost[correct >= needed].min(), rel=1e-9)
        assert accurate.cost <= budget * (1 + 1e-9)
        assert round(accurate.accuracy * samples) == correct[cost <= budget * (1 + 1e-12)].max()


@pytest.mark.parametrize("fuse", ["mean", "product"])
def test_searches_that_share_what_they_know_of_chains_find_the_same(fuse):
    # more chains than are all searched
    records, options = savers(4, 600, 6), SearchOptions(fuse=fuse)
    goals = [Goal(max_accuracy_drop=0.0), Goal(max_accuracy_drop=0.01), Goal(budget=0.4)]
    shared, plain = Search(records, options), Search(records, options.quick())
    for each in (goals[:1], goals, goals[::-1]):
        found = shared.quick().run(each)
        assert [shared.configuration(one) for one in found] == [plain.configuration(one) for one in plain.run(each)]
        alone = Search(records, options)
        found = shared.run(each)
        assert [shared.configuration(one) for one in found] == [alone.configuration(one) for one in alone.run(each)]


@pytest.mark.parametrize("fuse", ["none", "mean"])
@pytest.mark.parametrize("make", [savers, exits])
def test_goals_hold_on_the_samples_searched(make, fuse):
    records = make(1, 1500)
    goals = [Goal(max_accuracy_drop=drop) for drop in (0.0, 0.01, 0.05)] + [Goal(budget=0.5)]
    figures = [evaluate(records, found) for found in optimize(records, goals, SearchOptions(fuse=fuse), crossfit=False)]
    for goal, figure in zip(goals[:3], figures, strict=False):
        assert figure.accuracy_drop <= goal.max_accuracy_drop + 1e-9
    assert figures[0].cost > figures[1].cost > figures[2].cost
    assert figures[0].cost_ratio < 0.9
    assert figures[3].cost_ratio <= 0.5 + 1e-9


@pytest.mark.parametrize("fuse", ["none", "mean"])
def test_a_front_rises(fuse):
    records = exits(2, 2000)
    figures = [evaluate(records, found) for found in front(records, 20, options=SearchOptions(fuse=fuse))]
    assert len(figures) >= 10
    assert all(a.cost < b.cost and a.accuracy < b.accuracy for a, b in zip(figures, figures[1:], strict=False))


def test_a_front_that_is_filled_up_has_as_many_points_as_are_asked_for():
    search = Search(exits(2, 2000), SearchOptions(fuse="none"))
    for points in (2, 3, 12, 20):
        assert points - 1 <= len(search.front(points)) <= points


def test_at_most_so_many_savers():
    records, goals = savers(3, 500, count=6), [Goal(max_accuracy_drop=drop) for drop in (0.0, 0.02, 0.1)]
    for most in (0, 1, 2):
        for fuse in ("none", "mean"):
            for found in optimize(records, goals, SearchOptions(fuse=fuse, max_savers=most), crossfit=False):
                assert len(found.stages) <= most


def test_one_head_a_position():
    records, goals = exits(4, 600, heads=3), [Goal(max_accuracy_drop=drop) for drop in (0.0, 0.02, 0.1)]
    for fuse in ("none", "mean"):
        for found in optimize(records, goals, SearchOptions(fuse=fuse), crossfit=False):
            places = [records.positions[records.index(name)] for name, _ in found.stages]
            assert len(places) == len(set(places))


def test_no_threshold_sits_on_a_confidence():
    records = savers(5, 500)
    (found,) = optimize(records, [Goal(max_accuracy_drop=0.01)], SearchOptions(fuse="none"))
    for name, threshold in found.stages:
        sure = records.topk_probabilities[records.index(name), :, 0]
        assert np.float32(threshold) == threshold
        assert (sure != np.float32(threshold)).all()


def test_nothing_pays_off_leaves_the_backbone_alone():
    records = savers(6, 400, count=2)
    records = replace(records, own_cost=np.array([2.0, 3.0, 0.0]))
    assert optimize(records, [Goal(max_accuracy_drop=0.0)]) == [Configuration((), "mean")]


def test_backbone_alone_can_be_tuned():
    records = savers(7, 100).select([])
    assert optimize(records, [Goal(max_accuracy_drop=0.0)])[0].stages == ()


@pytest.mark.parametrize("fuse", ["none", "mean"])
def test_unknown_labels_mean_agreement_with_the_backbone(fuse):
    records = savers(8, 600)
    unknown = replace(records, labels=np.full(600, -1))
    (found,) = optimize(unknown, [Goal(max_accuracy_drop=0.1)], SearchOptions(fuse=fuse), crossfit=False)
    figures = evaluate(unknown, found)
    assert figures.baseline_accuracy == 1
    assert (figures.prediction != unknown.topk_classes[-1, :, 0]).mean() <= 0.1
    assert figures.cost_ratio < 1


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (Goal(budget=0.01), "no stage fits a budget of 0.01 of the backbone's cost; the cheapest costs 0.03 of it"),
        (Goal(max_accuracy_drop=-0.9), "no configuration keeps the accuracy drop at or under -0.9; the least found is"),
    ],
)
def test_goals_out_of_reach(goal, message):
    with pytest.raises(TuningError) as error:
        optimize(savers(9, 300), [goal])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fuse": "mean "}, "fuse must be 'mean', 'none' or 'product'; got 'mean '"),
        ({"max_savers": -1}, "max_savers must be 0 or more; got -1"),
    ],
)
def test_options_out_of_range(arguments, message):
    with pytest.raises(TuningError) as error:
        optimize(savers(9, 100), [Goal(budget=0.5)], SearchOptions(**arguments))
    assert str(error.value) == message
