from dataclasses import replace

import numpy as np
import pytest
from instances import exits, random_records, savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.search import position_search
from dynamic_exit.search.outcomes import SOME_ROWS, OutcomeCache
from dynamic_exit.search.position_search import OFF, PositionSearch, coordinate_ascent
from dynamic_exit.search.tradeoff import TradeoffPath

TRADES = (1e-9, 0.05, 0.5, 2.0, 1e9)


def configuration(records, path, options) -> Configuration:
    used = [
        (records.stages[group[option[0]]], float(line.threshold(option)))
        for group, line, option in zip(path.groups, path.searches, options, strict=True)
        if option != OFF
    ]
    return Configuration(tuple(used), "none")


def worth(records, path, options, multiplier) -> float:
    e = evaluate(records, configuration(records, path, options))
    return (e.accuracy - multiplier * e.cost_ratio) * len(records)


def choices(line):
    found = [OFF]
    for head, sure in enumerate(line.confidence):
        found += [line.option(head, threshold) for threshold in (np.float32(-1), *np.unique(sure))]
    return found


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("multiplier", TRADES)
def test_no_change_of_one_group_helps(multiplier, many, monkeypatch):
    # of many samples, codes are ordered before they are looked up
    monkeypatch.setattr(position_search, "SOME_ROWS", 0 if many else SOME_ROWS)
    for seed in range(12):
        random = np.random.default_rng(seed)
        records = random_records(seed, int(random.integers(2, 40)), 1 + seed % 4, ties=seed % 2 == 0)
        path = TradeoffPath(OutcomeCache(records, "none"))
        start = [choices(line)[int(random.integers(len(choices(line))))] for line in path.searches]
        found = coordinate_ascent(path.searches, path.final_correct, multiplier, start)
        reached = worth(records, path, found.options, multiplier)
        assert found.correct - multiplier * found.cost == pytest.approx(reached, rel=1e-9, abs=1e-9)
        assert reached >= worth(records, path, start, multiplier) - 1e-9 * multiplier
        for group, line in enumerate(path.searches):
            for option in choices(line):
                changed = [*found.options[:group], option, *found.options[group + 1 :]]
                assert worth(records, path, changed, multiplier) <= reached + 1e-9 * (1 + abs(reached))


def test_heads_of_one_position_may_have_different_prefixes():
    records = exits(3, 200, positions=1, heads=3)
    records = replace(records, prefix_cost=np.array([0.2, 0.5, 0.4, 1.0]))
    path = TradeoffPath(OutcomeCache(records, "none"))
    for multiplier in (0.1, 0.5, 1.0):
        (best,) = coordinate_ascent(path.searches, path.final_correct, multiplier, [OFF]).options
        values = {option: worth(records, path, [option], multiplier) for option in choices(path.searches[0])}
        assert values[best] == pytest.approx(max(values.values()))


def test_there_may_be_more_ways_to_leave_than_a_byte_holds():
    records = savers(1, 60, 70)
    path = TradeoffPath(OutcomeCache(records, "none"))
    start = [choices(line)[index % 60] for index, line in enumerate(path.searches)]
    found = coordinate_ascent(path.searches, path.final_correct, 0.5, start)
    reached = worth(records, path, found.options, 0.5)
    for group in (0, 35, 69):
        for option in choices(path.searches[group])[::6]:
            changed = [*found.options[:group], option, *found.options[group + 1 :]]
            assert worth(records, path, changed, 0.5) <= reached + 1e-9


def test_an_option_that_is_as_good_as_the_best_remains():
    records = savers(1, 50, count=1)
    # the stage answers as the backbone does and costs as much: nothing can be better
    same = {
        "own_cost": np.zeros(2),
        "prefix_cost": np.array([1.0, 1.0]),
        "kinds": ("exit", "final"),
    }
    same["positions"] = np.array([0, 1])
    for name in ("topk_classes", "topk_probabilities"):
        same[name] = np.stack([getattr(records, name)[1]] * 2)
    path = TradeoffPath(OutcomeCache(replace(records, **same), "none"))
    for start in (OFF, (0, 0), (0, 7)):
        assert coordinate_ascent(path.searches, path.final_correct, 0.7, [start]).options == (start,)


def test_thresholds_on_all_samples_part_the_same_samples():
    records = random_records(5, 60, 1, ties=True)
    line = PositionSearch(OutcomeCache(records, "none"), (0,), slice(None), np.empty(61, dtype=np.int64))
    confidence = records.topk_probabilities[0, :, 0]
    for threshold in [*np.unique(confidence), np.float32(-1), np.float32(1)]:
        option = line.option(0, threshold)
        assert (line.leaves(option) == (confidence > threshold)).all()
        assert (line.leaves(option) == (confidence > line.threshold(option))).all()
    assert not line.leaves(OFF).any()


@pytest.mark.parametrize("samples", [300, 12_000])
def test_a_front_counts_what_an_evaluation_counts(samples):
    records = exits(2, samples, positions=3)
    found = TradeoffPath(OutcomeCache(records, "none")).front(12)
    assert len(found) >= 6
    for stages, fit in found:
        chosen = zip(stages, fit.thresholds.tolist(), strict=True)
        e = evaluate(records, Configuration(tuple((records.stages[s], t) for s, t in chosen), "none"))
        assert round(e.accuracy * samples) == fit.correct
        assert e.cost * samples == pytest.approx(fit.cost, rel=1e-12)
    assert all(a.cost < b.cost and a.correct < b.correct for (_, a), (_, b) in zip(found, found[1:], strict=False))
