import itertools

import numpy as np
import pytest
from instances import exits, random_records, savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.group_losses import group_drops
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import TuningError
from dynamic_exit.guarantee import Expected, fixed_sequence_test
from dynamic_exit.guarantee.drop_checks import check_drops
from dynamic_exit.points.goal import Goal
from dynamic_exit.points.goal_limits import goals_from_drops
from dynamic_exit.records import Records
from dynamic_exit.records.risk import parse_risk
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.table import thresholds_between
from dynamic_exit.tuning.optimizer import front, optimize, tune

LOSS = np.array([[0, 0.3, 1, 1], [0.1, 0, 0.5, 1], [1, 1, 0, 0.2], [0.7, 0.4, 0.1, 0]]).tolist()
RISKS = ["top_2", "balanced_accuracy", "agreement", LOSS]


def judged(records: Records, given) -> Records:
    return records.with_risk(parse_risk(given, 4).fit(records))


def every_configuration(records: Records, fuse: str) -> list[tuple[float, float]]:
    """Increase of risk and cost of every set of at most two stages and every distinct combination of thresholds."""
    found = [(0.0, records.baseline_cost)]
    table = records.stage_table
    for count in (1, 2):
        for stages in itertools.combinations(range(table.final), count):
            if len({(table.kinds[s], int(table.positions[s])) for s in stages if table.kinds[s] == "exit"}) < sum(
                table.kinds[s] == "exit" for s in stages
            ):
                continue
            grids = []
            for place in range(count):
                from dynamic_exit.search.outcomes import OutcomeCache

                grids.append(thresholds_between(np.sort(OutcomeCache(records, fuse).chain(stages).confidence[place])))
            for thresholds in itertools.product(*grids):
                names = [records.stages[s] for s in stages]
                figures = evaluate(records, Configuration(tuple(zip(names, map(float, thresholds), strict=True)), fuse))
                found.append((figures.risk_increase, figures.cost))
    return found


@pytest.mark.parametrize("given", RISKS, ids=["top_2", "balanced", "agreement", "costs"])
@pytest.mark.parametrize("fuse", ["none", "mean"])
def test_the_search_finds_what_brute_force_does(given, fuse):
    records = judged(random_records(11, 16, 2), given)
    every = every_configuration(records, fuse)
    for allowed in (0.0, 0.05, 0.2):
        least = min(cost for increase, cost in every if increase <= allowed + 1e-9)
        options = SearchOptions(fuse, risk=records.risk)
        (found,) = optimize(records, [Goal(max_risk_increase=allowed)], options, crossfit=False)
        figures = evaluate(records, found)
        assert figures.risk_increase <= allowed + 1e-9
        assert figures.cost == pytest.approx(least)


def test_a_loss_of_one_for_every_wrong_answer_is_accuracy():
    records, other = savers(0, 800), savers(1, 800)
    plain = tune(records, other, [Goal(max_accuracy_drop=0.01)], SearchOptions("mean"))
    risk = parse_risk((1 - np.eye(10)).tolist(), 10)
    same = tune(records, other, [Goal(max_risk_increase=0.01)], SearchOptions("mean", risk=risk))
    assert same.points[0].stages == plain.points[0].stages
    assert same.points[0].risk.increase == pytest.approx(plain.points[0].accuracy_drop)
    assert same.points[0].risk.name == "cost_matrix" and same.points[0].name == "risk-increase-1%"


@pytest.mark.parametrize("given", ["top_2", "balanced_accuracy", LOSS], ids=["top_2", "balanced", "costs"])
def test_promises_about_a_risk_hold_as_often_as_they_say(given):
    population = judged(random_records(5, 6_000, 3), given)
    names = [name for name in population.stages if "saver" in name]
    path = [Configuration(((names[-1], t),), "none") for t in np.linspace(0.99, 0.3, 25)]
    truth = [evaluate(population, each).risk_increase for each in path]
    random, promised, broken = np.random.default_rng(0), 0, 0
    for _ in range(100):
        drawn = population.take(random.integers(6_000, size=800))
        outcome = fixed_sequence_test(drawn, path, max_accuracy_drop=0.03, probability=0.8, expected=Expected(0.1))
        promised += outcome.passed > 0
        broken += outcome.passed > 0 and truth[outcome.passed - 1] > 0.03
        assert outcome.guarantee is None or outcome.guarantee.max_risk_increase == 0.03
    assert promised > 30 and broken <= 100 * 0.2


def rare(seed: int, samples: int) -> Records:
    """97 : 3; the saver is as sure where it takes the rare class for the common one as where it is right."""
    random = np.random.default_rng(seed)
    labels = (random.random(samples) < 0.03).astype(np.int64)
    sure = random.uniform(0.5, 1, samples)
    seen = np.where((labels == 1) & (random.random(samples) < 0.5), 0, labels)
    saver = np.where(seen[:, None] == [0, 1], sure[:, None], 1 - sure[:, None])
    right = np.where(random.random(samples) < 0.02, 1 - labels, labels)
    final = np.where(right[:, None] == [0, 1], 0.95, 0.05)
    from dynamic_exit.records import StageTable

    table = StageTable.of(["saver", "final"], ["saver", "final"], [-1, 0], [0.1, 0], [0, 1])
    return Records.from_probabilities(labels, table, [saver, final])


def test_a_limit_on_classes_keeps_the_rare_one():
    search, other = rare(0, 4_000), rare(1, 20_000)
    plain = tune(search, other, [Goal(max_accuracy_drop=0.01)], SearchOptions("none")).points[0]
    assert group_drops(other, plain.configuration)[1] > 0.3, "accuracy does not see the rare class"
    limited = tune(search, other, goals_from_drops([0.01], max_class_drop=0.1), SearchOptions("none"))
    point = limited.points[0]
    assert point.largest_class_drop <= 0.1 and plain.cost_ratio < point.cost_ratio
    assert check_drops(limited, other)[0].groups.what == "class 1"


def test_a_limit_that_costs_nothing_changes_nothing():
    search, other = savers(0, 3_000), savers(1, 3_000)
    plain = tune(search, other, [Goal(max_accuracy_drop=0.01)], SearchOptions("none")).points[0]
    limited = tune(search, other, goals_from_drops([0.01], max_class_drop=0.2), SearchOptions("none")).points[0]
    assert limited.cost_ratio == pytest.approx(plain.cost_ratio, rel=0.02)


def test_a_looser_goal_under_a_limit_is_never_dearer():
    records = savers(3, 3_000)
    points = tune(records, records, goals_from_drops([0.0, 0.01, 0.05], max_class_drop=0.03), SearchOptions("none"))
    costs = [point.cost for point in points.points]
    assert costs == sorted(costs, reverse=True)


def test_groups_take_the_place_of_classes():
    records, other = (savers(seed, 3_000)._replace(groups=np.arange(3_000) % 2) for seed in (0, 1))
    made = tune(records, other, goals_from_drops([0.02], max_class_drop=0.02), SearchOptions("mean"))
    assert check_drops(made, other)[0].groups.what in ("group 0", "group 1")
    drops = group_drops(other, made.points[0].configuration)
    assert set(drops) == {0, 1} and made.points[0].largest_class_drop == pytest.approx(max(drops.values()))


def test_a_guarantee_holds_for_every_class():
    calibration, path = savers(2, 4_000), [Configuration((("saver2", t),), "none") for t in np.linspace(0.999, 0.4, 20)]
    alone = fixed_sequence_test(calibration, path, max_accuracy_drop=0.1, probability=0.9)
    limited = fixed_sequence_test(calibration, path, max_accuracy_drop=0.1, probability=0.9, max_class_drop=0.05)
    assert 0 < limited.passed <= alone.passed
    assert limited.guarantee.model_dump() == {
        "max_accuracy_drop": 0.1, "max_class_drop": 0.05, "probability": 0.9, "samples": 4_000,
    }  # fmt: skip
    few = calibration.take(np.flatnonzero((calibration.labels != 7) | (np.arange(4_000) < 200)))
    outcome = fixed_sequence_test(few, path, max_accuracy_drop=0.1, probability=0.9, max_class_drop=0.05)
    assert outcome.passed == 0 and "calibration samples of class 7, on which the safest configuration" in outcome.reason
    without = calibration.take(np.flatnonzero(calibration.labels != 7))
    expected = Expected(by_group=dict.fromkeys(range(10), 0.05))
    outcome = fixed_sequence_test(
        without, path, max_accuracy_drop=0.1, probability=0.9, max_class_drop=0.05, expected=expected
    )
    assert outcome.reason == "no calibration sample is of class 7"


def test_classes_with_too_few_samples_are_told():
    records = savers(0, 1_000)
    some = records.take(np.flatnonzero((records.labels > 1) | (np.arange(1_000) < 60)))
    made = tune(some, records, goals_from_drops([0.05], max_class_drop=0.05), SearchOptions("none"))
    (note,) = [each for each in made.warnings if "too few to show" in each]
    assert note.startswith("2 classes (0, 1) have fewer than 20 of the samples searched, too few to show")


@pytest.mark.parametrize("absent", [3, 9])
def test_a_class_without_samples_is_told_and_has_no_guarantee(absent):
    records, other = savers(0, 2_000, count=1), savers(1, 2_000, count=1)
    without = records.take(np.flatnonzero(records.labels != absent))
    goals = goals_from_drops([0.05], max_class_drop=0.1)
    said = f"class {absent} has none of the samples searched, and is not limited at all"
    made = tune(without, other, goals, SearchOptions("none"), guarantee_records=without, guarantee=0.9)
    assert made.warnings == (said, f"accuracy-drop-5%: no guarantee, no calibration sample is of class {absent}")
    assert made.points[0].guarantee is None
    made = tune(without, other, goals, SearchOptions("none"), guarantee_records=other, guarantee=0.9)
    assert made.warnings[0] == said
    # groups are those that samples have
    halves = [each._replace(groups=np.arange(len(each)) % 2) for each in (without, other)]
    assert tune(*halves, goals, SearchOptions("none"), guarantee_records=halves[1], guarantee=0.9).points[0].guarantee


def test_the_risk_of_the_options_judges_records_that_none_judges_yet():
    records, risk = savers(0, 300, count=1), parse_risk((0.1 - 0.1 * np.eye(10)).tolist(), 10)
    options, goals = SearchOptions("none", risk=risk), [Goal(max_risk_increase=0.02)]
    assert optimize(records, goals, options) == optimize(records.with_risk(risk), goals, options)
    assert front(records, 5, options) == front(records.with_risk(risk), 5, options)
    assert optimize(records, goals, options, crossfit=False) != optimize(
        records, goals, SearchOptions("none"), crossfit=False
    )


def test_a_guarantee_may_be_relative_to_another_model():
    search, calibration, other = (savers(seed, 3_000) for seed in (0, 1, 2))
    goals, kept = [Goal(max_accuracy_drop=0.01)], []
    for stage in ("saver0", "saver2"):
        worth = [each.topk_classes[each.index(stage), :, 0] == each.labels for each in (search, calibration)]
        relative = [each.with_reference(of) for each, of in zip((search, calibration), worth, strict=True)]
        point = tune(
            relative[0], other, goals, SearchOptions("none"), guarantee_records=relative[1], guarantee=0.9
        ).points[0]
        assert point.guarantee is not None
        correct = (other.topk_classes[other.index(stage), :, 0] == other.labels).mean()
        assert correct - point.accuracy <= 0.01
        kept.append(point.cost_ratio)
    assert kept[0] < kept[1], "the weaker a model, the less is asked for"


def test_one_limit_for_all_goals():
    goals = [Goal(max_accuracy_drop=0.01, max_class_drop=0.02), Goal(max_accuracy_drop=0.02)]
    with pytest.raises(TuningError, match="all goals must have the same max_class_drop; got"):
        tune(savers(0, 300), savers(1, 300), goals, SearchOptions("none"))
    with pytest.raises(ValueError, match="a max_class_drop limits an allowed drop; a budget has none"):
        Goal(budget=0.5, max_class_drop=0.02)


def test_exits_without_a_path_are_searched_as_chains():
    records, other = exits(0, 1_000, 2), exits(1, 1_000, 2)
    risk = parse_risk("balanced_accuracy", 10)
    made = tune(records, other, [Goal(max_risk_increase=0.02)], SearchOptions("none", risk=risk)).points[0]
    plain = tune(records, other, [Goal(max_accuracy_drop=0.02)], SearchOptions("none")).points[0]
    assert made.cost_ratio == pytest.approx(plain.cost_ratio, rel=0.1), "classes occur about equally often"
