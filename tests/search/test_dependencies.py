"""Exits that need a saver: never in use without it, and searched as well as chains without such a rule."""

import itertools

import numpy as np
import pytest

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import OperatingPointError, RecordsError
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records, StageTable
from dynamic_exit.search.dependencies import insert_saver, with_saver_always_on
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.solver import Search
from dynamic_exit.tuning.optimizer import tune

GOALS = [Goal(max_accuracy_drop=drop) for drop in (0.0, 0.02, 0.1)]


def records(seed, samples, needing=2.3, positions=3):
    """Two savers, and behind each position an exit and a better one that needs the second saver."""
    random = np.random.default_rng(seed)
    labels = random.integers(6, size=samples)
    hard = random.standard_normal((samples, 1))
    names, kinds, places, strengths, own, prefix, requires = [], [], [], [], [], [], []

    def add(*values):
        for column, value in zip((names, kinds, places, strengths, own, prefix, requires), values, strict=True):
            column.append(value)

    add("small", "saver", -1, 1.0, 0.02, 0.0, -1)
    add("base", "saver", -1, 1.6, 0.06, 0.0, -1)
    for at in range(positions):
        share = (at + 1) / (positions + 1)
        add(f"{at}:linear", "exit", at, 1.4 + at / 4, 0.001, share, -1)
        add(f"{at}:sequence", "exit", at, needing + at / 4, 0.002, share, 1)
    add("final", "final", positions, 3.2, 0.0, 1.0, -1)
    logits = [
        (strength - hard) * np.eye(6)[labels] + 0.6 * random.standard_normal((samples, 6)) for strength in strengths
    ]
    made = Records.from_logits(labels, StageTable.of(names, kinds, places, own, prefix), logits, k=6)
    return with_requirements(made, requires)


def with_requirements(made, requires):
    fields = {name: getattr(made, name) for name in made.__dataclass_fields__}
    return Records(**{**fields, "requires": np.asarray(requires, np.int64)})


def test_requirements_survive_files_and_selections(tmp_path):
    made = records(0, 40)
    made.write(tmp_path / "records.npz")
    assert Records.read(tmp_path / "records.npz").requires.tolist() == made.requires.tolist()
    assert made.take(slice(7)).requires.tolist() == made.requires.tolist()
    assert made.select(["0:linear"]).requires is None
    kept = made.select(["1:sequence"])
    assert kept.stages == ("base", "1:sequence", "final")
    assert kept.requires.tolist() == [-1, 0, -1]
    joined = Records.join([made.select(["small"]), kept], along="stages")
    assert joined.stages == ("small", "base", "1:sequence", "final")
    assert joined.requires.tolist() == [-1, -1, 1, -1]


@pytest.mark.parametrize(
    ("requires", "message"),
    [
        ([1, -1, -1], "'requires' is the index of an exit's saver, or -1; got 1 for the saver 'base'"),
        ([-1, 1, -1], "got 1 for the exit '1:sequence'"),
        ([-1, -1, 0], "got 0 for the final 'final'"),
    ],
)
def test_requirements_of_anything_but_a_saver_are_refused(requires, message):
    with pytest.raises(RecordsError, match=message):
        with_requirements(records(0, 10).select(["1:sequence"]), requires)


def test_an_exit_without_its_saver_is_refused():
    with pytest.raises(OperatingPointError, match="'1:sequence' builds on 'base'; use that stage too"):
        evaluate(records(0, 10), Configuration((("small", 0.5), ("1:sequence", 0.5))))


@pytest.mark.parametrize("seed", range(3))
def test_costs_where_the_saver_always_runs_are_those_of_the_chain_with_it(seed):
    made = records(seed, 200)
    view, random = with_saver_always_on(made, 1), np.random.default_rng(seed)
    for stages in [(0,), (0, 2), (2, 4), (0, 2, 6), (0, 1, 4), (1, 2)]:
        thresholds = random.uniform(0.4, 0.9, len(stages)).astype(np.float32)
        here = Configuration(tuple((made.stages[s], t) for s, t in zip(stages, thresholds, strict=True)))
        chain, limits = insert_saver(1, stages, thresholds)
        there = Configuration(tuple((made.stages[s], t) for s, t in zip(chain, limits, strict=True)))
        mine, real = evaluate(view, here), evaluate(made, there)
        assert mine.cost == pytest.approx(real.cost)
        np.testing.assert_array_equal(mine.prediction, real.prediction)


@pytest.mark.parametrize("fuse", ["none", "mean"])
def test_few_chains_are_searched_like_all_that_are_allowed(fuse):
    made = records(5, 24, positions=1)
    found = Search(made, SearchOptions(fuse=fuse)).run(GOALS)
    for goal, best in zip(GOALS, found, strict=True):
        configuration = Search(made, SearchOptions(fuse=fuse)).configuration(best)
        result = evaluate(made, configuration)
        assert result.accuracy_drop <= goal.max_accuracy_drop + 1e-9
        assert result.cost <= _least(made, fuse, goal) * (1 + 1e-6)


def _least(made, fuse, goal):
    """The least cost over all allowed chains of two stages at most and all thresholds on a grid."""
    least, grid = np.inf, np.linspace(0.15, 1.0, 12, dtype=np.float32)
    for chain in itertools.chain(itertools.combinations(range(4), 1), itertools.combinations(range(4), 2)):
        for thresholds in itertools.product(grid, repeat=len(chain)):
            stages = tuple((made.stages[s], float(t)) for s, t in zip(chain, thresholds, strict=True))
            try:
                result = evaluate(made, Configuration(stages, fuse))
            except OperatingPointError:  # not allowed
                continue
            if result.accuracy_drop <= goal.max_accuracy_drop + 1e-9:
                least = min(least, result.cost)
    return least


@pytest.mark.parametrize("fuse", ["none", "mean"])
def test_long_chains_use_the_better_exits_with_their_saver(fuse, monkeypatch):
    monkeypatch.setattr(Search, "_all_chains", None)
    made = records(1, 1500)
    plain = made.select([name for name in made.stages if "sequence" not in name])
    rich, poor = Search(made, SearchOptions(fuse=fuse)), Search(plain, SearchOptions(fuse=fuse))
    for with_them, without in zip(rich.run(GOALS), poor.run(GOALS), strict=True):
        configuration = rich.configuration(with_them)
        names = [name for name, _ in configuration.stages]
        assert "base" in names
        assert any("sequence" in name for name in names)
        cost = evaluate(made, configuration).cost
        assert cost == pytest.approx(with_them.fit.cost / len(made), rel=1e-3)
        assert cost < evaluate(plain, poor.configuration(without)).cost


def test_worse_exits_that_need_a_saver_change_nothing(monkeypatch):
    monkeypatch.setattr(Search, "_all_chains", None)
    made = records(2, 1500, needing=-0.5)
    plain = made.select([name for name in made.stages if "sequence" not in name])
    for one, two in zip(
        Search(made, SearchOptions(fuse="none")).front(12),
        Search(plain, SearchOptions(fuse="none")).front(12),
        strict=False,
    ):
        assert evaluate(made, Search(made, SearchOptions(fuse="none")).configuration(one)).cost <= evaluate(
            plain, Search(plain, SearchOptions(fuse="none")).configuration(two)
        ).cost * (1 + 1e-6)


def test_a_whole_tuning_names_the_saver():
    made, other, proof = (records(seed, 300, positions=1) for seed in (3, 4, 5))
    points = tune(made, other, GOALS[2:], SearchOptions(fuse="none"), guarantee_records=proof, guarantee=0.8)
    for point in points.points:
        names = [stage.stage for stage in point.stages]
        assert "base" in names or not any("sequence" in name for name in names)
    assert any("sequence" in stage.stage for point in points.points for stage in point.stages)


def test_nothing_but_exits_that_need_a_saver_can_be_searched(monkeypatch):
    monkeypatch.setattr(Search, "_all_chains", None)
    made = records(6, 400)
    alone = made.select([name for name in made.stages if "sequence" in name])
    search = Search(alone, SearchOptions(fuse="none"))
    for found in search.run(GOALS):
        names = [name for name, _ in search.configuration(found).stages]
        assert not names or names[0] == "base"
