"""The choice of points among all that was found: their order, margins for optimism, and warnings."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import exits, random_records, savers
from points import budgets, drops

from dynamic_exit.chain.evaluation import evaluate
from dynamic_exit.chain.thresholds import Configuration
from dynamic_exit.errors import TuningError
from dynamic_exit.guarantee import Expected, certify_boldest, count_losses, fixed_sequence_test
from dynamic_exit.points.goal import Goal
from dynamic_exit.search.options import SearchOptions
from dynamic_exit.search.solver import Search
from dynamic_exit.tuning.choice import Choice, goals_with_margin, run_with_margin, shortage_warnings
from dynamic_exit.tuning.optimizer import optimize, tune


def out_of_order(records, goals, configurations) -> list[tuple[Goal, Goal]]:
    """Pairs of which the looser goal is dearer, or the larger budget less accurate, on the samples searched."""
    made = [(goal, evaluate(records, found)) for goal, found in zip(goals, configurations, strict=True)]
    return [
        (strict, loose)
        for (strict, a), (loose, b) in itertools.permutations(made, 2)
        if (
            strict.budget is None
            and loose.budget is None
            and strict.max_accuracy_drop < loose.max_accuracy_drop
            and b.cost > a.cost
        )
        or (strict.budget and loose.budget and strict.budget < loose.budget and b.accuracy < a.accuracy)
    ]


# what the correction is, goal by goal: none, even, uneven, more for the looser, far more than there is to give
GROWTHS = {
    "none": [0.0, 0.0, 0.0, 0.0],
    "even": [0.02, 0.02, 0.02, 0.02],
    "more for the looser": [0.0, 0.01, 0.03, 0.06],
    "more for the stricter": [0.06, 0.03, 0.01, 0.0],
    "beyond all": [0.9, 0.5, 0.9, 0.7],
}
ORDER = {
    "drops, strict first": drops(0.0, 0.005, 0.01, 0.05),
    "drops, loose first": drops(0.05, 0.01, 0.005, 0.0),
    "a gain among them": drops(0.01, -0.003, 0.0, 0.02),
    "less than a sample": drops(0.0, 0.0001, 0.001, 0.01),
    "budgets": budgets(0.8, 0.4, 0.6, 0.5),
    "drops and budgets": [*drops(0.02), *budgets(0.5), *drops(0.0), *budgets(0.8)],
}


@pytest.mark.parametrize("optimism", GROWTHS.values(), ids=GROWTHS)
@pytest.mark.parametrize("name", ORDER)
def test_points_are_in_order_whatever_the_correction_is(name, optimism):
    few = list(ORDER).index(name) % 2
    records = exits(3, 120, positions=2, heads=1) if few else savers(3, 200, count=2)
    goals = ORDER[name]
    made = run_with_margin(
        Search(records, SearchOptions(fuse="none" if few else "mean", thorough=False)), goals, optimism
    )
    kept = [(goal, choice.configuration) for goal, choice in zip(goals, made, strict=True) if choice is not None]
    assert len(kept) >= 3
    assert out_of_order(records, *zip(*kept, strict=True)) == []


@given(
    st.integers(0, 10_000),
    st.lists(st.sampled_from([-0.02, 0.0, 0.01, 0.04, 0.1, 0.2]), min_size=2, max_size=4, unique=True),
    st.lists(st.floats(0, 0.3), min_size=4, max_size=4),
)
@settings(max_examples=15, deadline=None)
def test_points_are_in_order_on_any_records(seed, allowed, optimism):
    records = random_records(seed, 20 + seed % 60, 1 + seed % 2, ties=seed % 3 == 0)
    goals = drops(*allowed)
    made = run_with_margin(Search(records, SearchOptions(fuse="none", thorough=False)), goals, optimism[: len(goals)])
    kept = [(goal, choice) for goal, choice in zip(goals, made, strict=True) if choice is not None]
    for goal, choice in kept:
        assert evaluate(records, choice.configuration).accuracy_drop <= goal.max_accuracy_drop + 1e-9
        assert 0 <= choice.missing <= choice.margin + 1e-9
    if kept:
        assert out_of_order(records, *zip(*((goal, each.configuration) for goal, each in kept), strict=True)) == []


def test_the_example_is_in_order():
    # 600 samples, exits of one backbone
    records = exits(5, 600, positions=2, heads=1)
    goals = drops(0.01, 0.0, 0.005)
    assert out_of_order(records, goals, optimize(records, goals, SearchOptions(fuse="none"))) == []


ASKED = [
    ("the correction is taken off", [0.0, 0.01], [0.002, 0.002], [-0.002, 0.008]),
    ("a looser goal is asked for no less", [0.0, 0.01], [0.001, 0.05], [-0.001, -0.001]),
    ("in any order", [0.01, 0.0], [0.05, 0.001], [-0.001, -0.001]),
    ("through a chain of three", [0.0, 0.01, 0.02], [0.0, 0.05, 0.03], [0.0, 0.0, 0.0]),
    ("a stricter goal is asked for no more", [0.0, 0.01], [0.05, 0.0], [-0.05, 0.01]),
    ("gains", [-0.01, 0.0], [0.0, 0.03], [-0.01, -0.01]),
    ("not below a gain of everything", [-0.9], [0.5], [-1.0]),
]


@pytest.mark.parametrize(("allowed", "optimism", "asked"), [row[1:] for row in ASKED], ids=[row[0] for row in ASKED])
def test_what_is_asked_of_the_search(allowed, optimism, asked):
    found = [goal.max_accuracy_drop for goal in goals_with_margin(drops(*allowed), optimism)]
    assert found == pytest.approx(asked)


def test_budgets_are_asked_for_as_they_are():
    goals = [*budgets(0.4), *drops(0.01)]
    assert goals_with_margin(goals, [0.0, 0.01])[0] is goals[0]


def test_a_correction_takes_at_most_half_of_what_is_saved():
    records = savers(1, 400)
    search = Search(records, SearchOptions(fuse="none", thorough=False))
    (plain,), (corrected,) = (run_with_margin(search, drops(0.02), [optimism]) for optimism in (0.0, 0.5))
    saved = [1 - evaluate(records, each.configuration).cost_ratio for each in (plain, corrected)]
    assert saved[0] / 2 - 1e-9 <= saved[1] <= saved[0]
    assert plain.missing == 0 < corrected.missing < corrected.margin == 0.5


def test_promises_are_in_order():
    records = savers(4, 1500)
    search, calibration = Search(records, SearchOptions(fuse="none", thorough=False)), savers(5, 3000)
    allowed, optimism = [0.05, 0.02, 0.03, 0.1], [0.0, 0.0, 0.01, 0.02]
    plain = [choice.configuration for choice in run_with_margin(search, drops(*allowed), optimism)]
    made = certify_boldest(search, plain, calibration, drops(*allowed), 0.9, optimism)
    kept = [(Goal(max_accuracy_drop=a), each[0]) for a, each in zip(allowed, made, strict=True) if each[1]]
    assert len(kept) >= 2
    assert out_of_order(records, *zip(*kept, strict=True)) == []
    for (_, promise, _), drop in zip(made, allowed, strict=True):
        assert promise is None or promise.max_accuracy_drop == drop


def test_what_passes_for_a_drop_passes_for_a_larger_one_that_bets_alike():
    records = savers(6, 800)
    path = [Configuration((("saver0", threshold),), "none") for threshold in np.linspace(0.999, 0.5, 12)]
    share = count_losses(records, path[3]).mean_square
    options = {"probability": 0.8, "expected": Expected(share, widest=0.2)}
    passed = [
        fixed_sequence_test(records, path, max_accuracy_drop=drop, **options).passed
        for drop in (0.0, 0.02, 0.05, 0.1, 0.2)
    ]
    assert passed == sorted(passed) and passed[-1] > passed[0]


ALONE, SOME = Configuration(), Configuration((("saver0", 0.9),))
NOTES = [
    ("nothing to say", drops(0.01), [Choice(SOME)], []),
    ("budgets", budgets(0.1), [Choice(SOME)], []),
    (
        "less than a sample",
        drops(0.001, 0.01),
        [Choice(SOME), Choice(SOME)],
        [
            "accuracy-drop-0.1%: the allowed drop is less than one of the 450 samples searched, so that none of them "
            "may be lost; 1000 samples or more are needed"
        ],
    ),
    (
        "two drops of less than a sample, once",
        drops(0.002, 0.0005),
        [Choice(SOME), Choice(SOME)],
        [
            "accuracy-drop-0.2%, accuracy-drop-0.05%: the allowed drop is less than one of the 450 samples searched, "
            "so that none of them may be lost; 2000 samples or more are needed"
        ],
    ),
    (
        "too few for the correction",
        drops(0.0, 0.01),
        [Choice(SOME, 0.03, 0.021, 1234), Choice(SOME, 0.03, 0.011, 880)],
        [
            "accuracy-drop-0%, accuracy-drop-1%: 450 samples are not enough to make up in full for how far the search "
            "fits them; others may lose up to 2.1 points more than allowed; about 1,200 would be"
        ],
    ),
    (
        "no number is enough",
        drops(0.0),
        [Choice(SOME, 0.03, 0.03, None)],
        [
            "accuracy-drop-0%: 450 samples are not enough to make up in full for how far the search fits them; others "
            "may lose up to 3.0 points more than allowed; no number would be: allow a larger drop"
        ],
    ),
    (
        "nothing saves",
        drops(0.01),
        [Choice(ALONE)],
        ["accuracy-drop-1%: nothing saves at this drop on the 450 samples searched; all stages are off"],
    ),
]


@pytest.mark.parametrize(("goals", "choices", "said"), [row[1:] for row in NOTES], ids=[row[0] for row in NOTES])
def test_what_is_said_where_samples_are_few(goals, choices, said):
    assert shortage_warnings(Search(savers(0, 450), SearchOptions(fuse="none")), goals, choices) == said


def test_samples_that_would_be_enough_grow_with_what_is_missing():
    search, goals = Search(savers(1, 400), SearchOptions(fuse="none", thorough=False)), drops(0.02)
    needed = [run_with_margin(search, goals, [optimism])[0].samples_needed for optimism in (0.2, 0.4)]
    # twice the optimism needs 2 ** 1.5 times as many
    assert needed[0] > 400 and needed[1] / needed[0] == pytest.approx(2**1.5, rel=0.01)


def test_a_run_says_once_what_is_less_than_a_sample():
    records = savers(2, 60)
    notes = tune(records, records, drops(0.0, 0.001, 0.01)).warnings
    (said,) = [note for note in notes if "less than one of the 60 samples" in note]
    assert said.startswith("accuracy-drop-0.1%, accuracy-drop-1%: ") and said.endswith(
        "; 1000 samples or more are needed"
    )


def test_a_gain_out_of_reach_is_refused_beside_other_goals():
    with pytest.raises(
        TuningError, match="no configuration keeps the accuracy drop at or under -0.7; the least found is"
    ):
        optimize(savers(9, 100, count=2), drops(0.01, -0.7), SearchOptions(fuse="none"), crossfit=False)


def test_a_gain_out_of_reach_among_chains_that_are_many():
    # too many chains to look at all of them
    search = Search(savers(9, 3000, count=8), SearchOptions(fuse="mean", max_savers=2, thorough=False))
    assert run_with_margin(search, drops(-0.9), [0.01]) == [None]
