import itertools

import numpy as np
import pytest
from instances import exits, random_records, savers

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.errors import TuningError
from dynamic_exit.learning import learn_posterior
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records, StageTable
from dynamic_exit.search.beam import Beam, shortlist
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.outcomes import ApproximateOutcomes, OutcomeCache
from dynamic_exit.search.targets import count_target
from dynamic_exit.search.thresholds import polish, rough_fits
from dynamic_exit.tuning.optimizer import optimize

GOAL = Goal(max_accuracy_drop=0.01)


def pool(seed: int, samples: int, count: int, classes: int = 10) -> Records:
    """Savers of any strength at any cost, many dominated, and a final."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=samples)
    hard = random.standard_normal((samples, 1))
    own = np.sort(random.uniform(0.01, 0.5, size=count))
    strengths = 2.2 + 0.5 * np.log10(own) + 0.4 * random.standard_normal(count)
    logits = [
        (2 * strength - 1.2 * hard) * np.eye(classes)[labels] + random.standard_normal((samples, classes))
        for strength in [*strengths, 2.5]
    ]
    names = [f"saver{place}" for place in range(count)] + ["final"]
    kinds, places = ["saver"] * count + ["final"], [-1] * count + [0]
    return Records.from_logits(labels, StageTable.of(names, kinds, places, [*own, 0], [0] * count + [1]), logits)


def cost_of(records: Records, stages: tuple[int, ...]) -> float:
    chains = OutcomeCache(records, "mean")
    wanted = count_target(chains, GOAL)
    fit = rough_fits(chains.chain(stages), [wanted])[0][0]
    fit = polish(chains.chain(stages), wanted, fit) if stages else fit
    return wanted.key(fit.correct, fit.cost)[0] / len(records)


@pytest.mark.parametrize("seed", range(4))
def test_coarse_evidence_of_few_classes_is_the_evidence(seed):
    records = random_records(seed, 200, 3, classes=4, ties=seed % 2 == 0)
    rows = np.arange(0, 200, 2)
    exact, coarse = OutcomeCache(records.take(rows), "mean"), ApproximateOutcomes(records, "mean", rows)
    for size in range(4):
        for stages in itertools.combinations(range(3), size):
            a, b = exact.chain(stages), coarse.chain(stages)
            assert (a.correct == b.correct).all()
            assert np.abs(a.confidence - b.confidence).max(initial=0) < 1e-5
            assert (a.cost == b.cost).all()


@pytest.mark.parametrize("fuse", ["mean", "product"])
@pytest.mark.parametrize("seed", range(2))
def test_coarse_evidence_is_worth_what_a_posterior_says(seed, fuse):
    records = learn_posterior(random_records(seed, 200, 3, classes=4))
    rows = np.arange(0, 200, 2)
    a = OutcomeCache(records.take(rows), fuse).chain((0, 1, 2))
    b = ApproximateOutcomes(records, fuse, rows).chain((0, 1, 2))
    np.testing.assert_allclose(a.correct, b.correct, atol=1e-6)
    np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-5)


def test_coarse_evidence_of_many_classes_hardly_differs():
    random = np.random.default_rng(0)
    labels = random.integers(300, size=400)
    logits = [2.5 * np.eye(300)[labels] + 1.2 * random.standard_normal((400, 300)) for _ in range(9)]
    names, kinds = [f"s{place}" for place in range(8)] + ["final"], ["saver"] * 8 + ["final"]
    records = Records.from_logits(
        labels, StageTable.of(names, kinds, [-1] * 8 + [0], [0.1] * 8 + [0], [0] * 8 + [1]), logits
    )
    a = OutcomeCache(records, "mean").chain((0, 3, 6))
    b = ApproximateOutcomes(records, "mean", np.arange(400)).chain((0, 3, 6))
    assert (a.correct != b.correct).mean() < 0.01
    # a class that is left out is never added up, so evidence is never more than it is
    assert (b.confidence <= a.confidence + 1e-5).all()
    assert np.abs(a.confidence - b.confidence).mean() < 1e-2


def test_without_fused_evidence_coarse_chains_are_the_chains():
    records = savers(1, 300)
    a, b = (
        OutcomeCache(records, "none").chain((0, 2)),
        ApproximateOutcomes(records, "none", np.arange(300)).chain((0, 2)),
    )
    assert (a.correct == b.correct).all() and (a.confidence == b.confidence).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_chain_of_two_is_the_best_of_all(seed):
    records = pool(seed, 800, 7)
    (found,) = optimize(records, [GOAL], SearchOptions(fuse="mean", max_savers=2, seed=seed), crossfit=False)
    pairs = [stages for size in (0, 1, 2) for stages in itertools.combinations(range(7), size)]
    assert evaluate(records, found).cost <= 1.01 * min(cost_of(records, stages) for stages in pairs)


def test_many_samples_are_screened_on_few():
    records = pool(3, 8000, 5)
    beam = Beam(records, SearchOptions(fuse="mean", max_savers=2), screened=4)
    assert [len(level.records) for level in beam.levels] == [3000, 8000]
    (first, *others) = beam.best([GOAL], 3)[0]
    every = min(itertools.combinations(range(5), 2), key=lambda stages: cost_of(records, stages))
    assert cost_of(records, first) <= 1.01 * cost_of(records, every) and len(others) <= 2


def test_chains_grow_by_the_rules():
    records = exits(2, 50, positions=2, heads=2)
    assert list(records.stage_table.extensions(())) == [(0,), (1,), (2,), (3,)]
    # the other head of a position in use stays away
    assert list(records.stage_table.extensions((1,))) == [(1, 2), (1, 3)]
    assert list(records.stage_table.extensions((1, 3))) == []
    five = savers(2, 50, count=5)
    assert list(SearchOptions(max_savers=1).table_of(five).extensions((1,))) == []
    assert list(SearchOptions(max_savers=3).table_of(five).extensions((1, 3))) == [(0, 1, 3), (1, 2, 3), (1, 3, 4)]


def test_a_beam_keeps_its_limits():
    records = savers(5, 400, count=6)
    assert all(len(s) <= 1 for s in Beam(records, SearchOptions(fuse="mean", max_savers=1)).best([GOAL], 99)[0])
    assert Beam(records, SearchOptions(fuse="mean", max_savers=0)).best([GOAL, GOAL], 99) == [[], []]


def test_few_savers_need_no_shortlist():
    records = savers(6, 100, count=16)
    assert shortlist(records, [GOAL], SearchOptions(fuse="mean", max_savers=2, seed=0)) is records


def test_a_shortlist_keeps_what_good_chains_need():
    records = pool(7, 600, 19)
    listed = shortlist(records, [GOAL, Goal(budget=0.3)], SearchOptions(fuse="mean", max_savers=2, seed=0))
    correct = (records.topk_classes[:-1, :, 0] == records.truth).sum(axis=1)
    assert 2 <= len(listed.stages) - 1 <= 16 and listed.stages[-1] == "final"
    assert {"saver0", f"saver{correct.argmax()}"} <= set(listed.stages)
    costs = {stages: cost_of(records, stages) for stages in itertools.combinations(range(19), 2)}
    inside = {records.index(name) for name in listed.stages[:-1]}
    assert min(cost for stages, cost in costs.items() if inside.issuperset(stages)) <= 1.01 * min(costs.values())
    again = shortlist(records, [GOAL, Goal(budget=0.3)], SearchOptions(fuse="mean", max_savers=2, seed=0))
    assert again.stages == listed.stages


def test_large_pools_are_searched_with_care():
    careful, plain = [], []
    for seed in range(2):
        records = pool(20 + seed, 4000, 17)
        search, rest = records.take(slice(0, 200)), records.take(slice(200, 4000))
        for drops, crossfit in ((careful, True), (plain, False)):
            (found,) = optimize(search, [GOAL], SearchOptions(fuse="mean", max_savers=2), crossfit=crossfit)
            drops.append(evaluate(rest, found).accuracy_drop)
    assert np.mean(careful) < np.mean(plain)


def test_a_budget_below_all_names_the_cheapest_of_the_whole_pool():
    records = pool(9, 100, 17)
    with pytest.raises(TuningError, match=f"the cheapest costs {records.own_cost[0]:.4g} of it"):
        optimize(records, [Goal(budget=0.5 * records.own_cost[0])], SearchOptions(max_savers=2))
