import itertools

import numpy as np
import pytest
from pydantic import ValidationError

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.passes import TinySaverStanza
from dynamic_exit.passes.tiny_saver import Shortlist, evaluate_alone, select_savers
from dynamic_exit.points.goal import Goal
from dynamic_exit.records import Records, StageTable
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.tuning.optimizer import optimize

N = 100


def records(savers, final_right=0.95, cost=1000.0):
    """Records in which the figures are known: samples are numbered, two classes, the label is always 0.

    Args:
        savers: name -> (cost, easy, right): it is sure (0.9) of the first `easy` samples and right there; of the others
            it is unsure (0.6) and right on the share `right` of them, the last ones first.
        final_right: The share of samples that the final gets right, the first ones first.
        cost: Of the final.
    """
    number = np.arange(N)

    def stage(right, sure):
        rows = np.empty((N, 2))
        rows[:, 0] = np.where(right, sure, 1 - sure)
        rows[:, 1] = 1 - rows[:, 0]
        return rows

    probabilities = []
    for _, easy, right in savers.values():
        at_ease = number < easy
        probabilities.append(stage(at_ease | (number >= N - round(right * (N - easy))), np.where(at_ease, 0.9, 0.6)))
    probabilities.append(stage(number < round(final_right * N), np.full(N, 0.99)))
    names = (*savers, "final")
    return Records.from_probabilities(
        np.zeros(N, int),
        StageTable.of(
            names,
            ["saver"] * len(savers) + ["final"],
            [-1] * len(savers) + [0],
            [saver[0] for saver in savers.values()] + [0.0],
            [0.0] * len(savers) + [cost],
        ),
        probabilities,
    )


def single(records):
    return select_savers(records, SearchOptions("none", 1), selection="single")


def test_the_cheapest_pair_at_matched_accuracy_wins():
    # at matched accuracy only the sure samples may leave: cost = own + (100 - easy) % of 1000
    found = single(records({"weak": (10.0, 20, 0.0), "good": (50.0, 60, 0.0), "dear": (400.0, 80, 0.0)}))
    assert [(c.stage, c.chosen) for c in found] == [("good", True), ("dear", False), ("weak", False)]
    assert [c.saving_alone for c in found] == pytest.approx([0.55, 0.4, 0.19])
    # without the best, the second would be taken
    assert [c.saving_in_chain for c in found] == pytest.approx([0.15, 0.0, 0.0])
    assert [c.answered for c in found] == pytest.approx([0.6, 0.8, 0.2])
    assert [c.accuracy for c in found] == pytest.approx([0.6, 0.8, 0.2])
    assert [c.cost for c in found] == [50, 400, 10]
    assert [c.why for c in found] == ["largest saving at matched accuracy", "another saves more", "another saves more"]


def test_accuracy_alone_does_not_win():
    """The more accurate candidate alone, but unsure where it is right."""
    found = single(records({"unsure": (50.0, 10, 0.8), "sure": (50.0, 50, 0.0)}))
    assert [c.stage for c in found if c.chosen] == ["sure"]
    by_name = {c.stage: c for c in found}
    assert by_name["unsure"].accuracy > by_name["sure"].accuracy


@pytest.mark.parametrize("selection", ["single", "chain"])
def test_none_is_chosen_where_none_saves_anything(selection):
    # 20 % leave and everyone pays 300: 1100 in place of 1000
    pool = records({"dear": (300.0, 20, 0.0), "never": (10.0, 0, 0.0)})
    found = select_savers(pool, SearchOptions("none", 2), selection=selection)
    why = {"single": "saves nothing at matched accuracy", "chain": "in no best chain"}[selection]
    assert [(c.chosen, c.why) for c in found] == [(False, why)] * 2
    # matched accuracy is then the backbone alone
    assert [(c.saving_alone, c.saving_in_chain) for c in found] == [(0.0, 0.0)] * 2


def test_a_saver_may_be_better_than_the_backbone():
    found = single(records({"better": (50.0, 100, 0.0)}))
    assert [(c.stage, c.chosen, c.answered) for c in found] == [("better", True, 1.0)]
    assert found[0].saving_alone == found[0].saving_in_chain == pytest.approx(0.95)


def test_matched_accuracy_counts_the_backbones_own_mistakes():
    """It may err as often as the backbone, not on the same samples."""
    # sure of 50; right on 45 of the 50 others, wrong on samples 50 to 54; the final is wrong on the last 5
    found = single(records({"other": (10.0, 50, 0.9)}))
    assert found[0].answered == 1.0
    assert found[0].saving_alone == pytest.approx(0.99)


def test_a_chain_holds_several_only_if_each_pays():
    # 10 for 50 sure samples, then 100 for 30 more: 10 + 50 % of 100 + 20 % of 1000 = 260, against 510 or 300 alone
    savers = {"small": (10.0, 50, 0.0), "large": (100.0, 80, 0.0)}
    one = select_savers(records(savers), SearchOptions("none", 1))
    assert [c.stage for c in one if c.chosen] == ["large"]
    two = select_savers(records(savers), SearchOptions("none", 2))
    assert [c.stage for c in two if c.chosen] == ["large", "small"]
    assert {c.why for c in two} == {"in the best chain"}
    # alone 300 and 510; without one of them the other alone is the best chain
    assert [c.saving_alone for c in two] == pytest.approx([0.7, 0.49])
    assert [c.saving_in_chain for c in two] == pytest.approx([0.25, 0.04])
    # a second that is hardly better than the first costs more than it saves
    useless = select_savers(records({"small": (10.0, 50, 0.0), "hardly": (300.0, 52, 0.0)}), SearchOptions("none", 2))
    assert [(c.stage, c.chosen, c.saving_in_chain) for c in useless] == [
        ("small", True, pytest.approx(0.49 - (1 - 0.78))),
        ("hardly", False, 0.0),
    ]


def random_pool(seed, count=6, samples=400, classes=4):
    """Savers of random cost and skill."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=samples)
    hard = random.normal(size=(samples, 1))
    cost = np.append(np.sort(random.uniform(20, 950, count)), 1000.0)
    logits = [
        random.normal(size=(samples, classes)) + (1 + level - hard) * 1.5 * np.eye(classes)[labels]
        for level in np.log(cost / 100)
    ]
    names = [*(f"s{i}" for i in range(count)), "final"]
    return Records.from_logits(
        labels,
        StageTable.of(
            names, ["saver"] * count + ["final"], [-1] * count + [0], [*cost[:-1], 0.0], [0.0] * count + [cost[-1]]
        ),
        logits,
    )


@pytest.mark.parametrize("fuse", ["none", "mean"])
def test_the_chain_is_within_one_percent_of_the_best_of_all_pairs(fuse):
    pool = random_pool(3)
    drop = 0.01
    goal = [Goal(max_accuracy_drop=drop)]

    def cost(names):
        part = pool.select(names)
        (best,) = optimize(part, goal, SearchOptions(fuse=fuse, max_savers=2), crossfit=False)
        return evaluate(part, best).cost_ratio

    found = select_savers(pool, SearchOptions(fuse, 2), Goal(max_accuracy_drop=drop))
    chosen = [c.stage for c in found if c.chosen]
    every = {pair: cost(pair) for pair in itertools.combinations(pool.stages[:-1], 2)}
    assert cost(chosen) <= 1.01 * min(every.values())
    # the saving in the chain, once more: by hand, over all pairs without it
    saved = {c.stage: c.saving_in_chain for c in found}
    for name in chosen:
        without = min(value for pair, value in every.items() if name not in pair)
        assert saved[name] == pytest.approx(without - min(every.values()), abs=0.01 * without)
    assert all(saved[c.stage] == 0 for c in found if not c.chosen)


@pytest.mark.parametrize("budget", [0.4, 0.7])
def test_for_a_budget_the_most_accurate_pair_is_chosen(budget):
    pool, goal = random_pool(3), Goal(budget=budget)

    def accuracy(names):
        part = pool.select(names)
        (best,) = optimize(part, [goal], SearchOptions("none", 2), crossfit=False)
        return evaluate(part, best).accuracy

    pairs = [*itertools.combinations(pool.stages[:-1], 2)]
    affordable = [pair for pair in pairs if min(pool.own_cost[pool.index(name)] for name in pair) <= 1000 * budget]
    found = select_savers(pool, SearchOptions("none", 2), goal)
    chosen = [each.stage for each in found if each.chosen]
    assert accuracy(chosen) >= max(map(accuracy, affordable)) - 0.005
    assert {each.saving_in_chain for each in found} == {None}, "what the chain saves is not what it is for"


def test_nothing_is_chosen_for_a_budget_below_every_stage():
    assert not any(each.chosen for each in select_savers(random_pool(3), SearchOptions("none", 2), Goal(budget=1e-9)))


@pytest.mark.parametrize("seed", range(4))
def test_what_the_shortlist_drops_cannot_win(seed):
    """The rule for one saver gives the same with the dropped candidates as without them."""
    pool = random_pool(seed, count=10)
    shortlist = Shortlist(pool.baseline_cost, pool.cost_unit, single=True)
    tried = []
    for name, cost in zip(pool.stages[:-1], pool.own_cost, strict=False):
        if shortlist.cannot_win(float(cost)) is None:
            tried.append(name)
            shortlist.record(evaluate_alone(pool, name, SearchOptions("none")))
    assert 0 < len(tried) < 10
    (best,) = (c for c in single(pool) if c.chosen)
    (found,) = (c for c in single(pool.select(tried)) if c.chosen)
    assert (found.stage, found.saving_alone) == (best.stage, best.saving_alone)


def test_the_shortlist_says_why():
    now = [0.0]
    shortlist = Shortlist(2e6, "macs", single=True, time_limit=5.0, clock=lambda: now[0])
    assert shortlist.too_expensive(1.9e6) is None
    assert shortlist.too_expensive(2e6) == "it costs 2 M multiply-adds, the backbone 2 M multiply-adds"
    assert shortlist.cannot_win(1.9e6) is None
    shortlist.record(evaluate_alone(records({"good": (50.0, 60, 0.0)}), "good", SearchOptions("none")))
    assert shortlist.cannot_win(0.8e6) is None
    assert shortlist.cannot_win(0.9e6) == (
        "too expensive: it alone costs 0.450 of the backbone, good and the backbone together 0.450"
    )
    assert shortlist.out_of_time() is None
    now[0] = 5.0
    assert shortlist.out_of_time() == "not tried, the time limit of 5 s was over"


def test_a_chain_drops_nothing_that_is_cheaper_than_the_backbone():
    """A dear saver behind a cheap one is paid for by few, and may pay although it alone does not."""
    pool = records({"small": (10.0, 90, 0.0), "dear": (460.0, 98, 0.0)}, final_right=0.99)
    shortlist = Shortlist(1000.0, "macs")
    shortlist.record(evaluate_alone(pool, "small", SearchOptions("none")))
    assert shortlist.cannot_win(460.0) is None
    assert {c.stage for c in select_savers(pool, SearchOptions("none", 2)) if c.chosen} == {"small", "dear"}


def test_defaults():
    stanza = TinySaverStanza(candidates=[{"source": "timm", "name": "resnet18"}])
    assert (stanza.selection, stanza.max_savers, stanza.fuse, stanza.quantize, stanza.time_limit) == (
        "chain", 2, None, True, None,
    )  # fmt: skip
    with pytest.raises(ValidationError):
        TinySaverStanza(candidates=stanza.candidates, time_limit=0)
