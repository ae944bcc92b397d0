"""The choice of an operating point by an allowed drop or a budget."""

import itertools

import numpy as np
import pytest
from points import file_of, point

from dynamic_exit.errors import OperatingPointError
from dynamic_exit.points.goal import Goal

HALF, ONE = (Goal(max_accuracy_drop=drop) for drop in (0.005, 0.01))
LUCKY = point("one", 0.3, drop=0.0, goal=ONE)
UNLUCKY = point("half", 0.5, drop=0.12, goal=HALF)
FRUGAL = point("frugal", 0.1, drop=-0.01, goal=Goal(budget=0.1))
SAFE = point("safe", 0.2, drop=0.03, goal=Goal(budget=0.2), promise=0.004)
WISHES = [
    ("a drop is by the goal, though it lost more", 0.005, [LUCKY, UNLUCKY], "half"),
    ("the cheapest of all that are strict enough", 0.02, [UNLUCKY, LUCKY], "one"),
    ("a dearer one of a looser goal is left", 0.01, [point("dear", 0.6, goal=ONE), UNLUCKY], "half"),
    ("just the goal", 0.01, [LUCKY], "one"),
    ("just the goal in float32", np.float32(0.01), [LUCKY], "one"),
    ("just the goal by subtraction", 1 - 0.99, [LUCKY], "one"),
    ("a promise where no goal is strict enough", 0.004, [LUCKY, FRUGAL, SAFE], "safe"),
    ("a goal goes before a promise", 0.01, [LUCKY, SAFE], "one"),
    ("no drop at all, tuned for", 0, [point("none", 0.7, goal=Goal(max_accuracy_drop=0.0)), LUCKY], "none"),
    ("a gain, tuned for", -0.01, [point("gain", 1.2, goal=Goal(max_accuracy_drop=-0.02)), LUCKY], "gain"),
    ("an integer", 0, [point("none", 0.7, goal=Goal(max_accuracy_drop=0.0))], "none"),
]


@pytest.mark.parametrize(("wish", "points", "name"), [row[1:] for row in WISHES], ids=[row[0] for row in WISHES])
def test_goals_decide_on_a_wish(wish, points, name):
    for order in itertools.permutations(points):
        assert file_of(*order).nearest(max_accuracy_drop=wish).name == name


UNMET = [
    (
        "the lucky point",
        0.001,
        [LUCKY],
        "no operating point was tuned for an accuracy drop of at most 0.001; known are: one (0.01); 'backbone' by name "
        "loses nothing",
    ),
    (
        "a budget's point that gained",
        0.1,
        [FRUGAL],
        "no operating point was tuned for an accuracy drop of at most 0.1; known are: frugal (a budget); "
        "'backbone' by name loses nothing",
    ),
    (
        "no drop at all",
        0.0,
        [LUCKY, SAFE, UNLUCKY],
        "no operating point was tuned for an accuracy drop of at most 0; known are: half (0.005), one (0.01), safe "
        "(0.004); 'backbone' by name loses nothing",
    ),
    (
        "a gain",
        -0.01,
        [LUCKY],
        "no operating point was tuned for an accuracy drop of at most -0.01; known are: one (0.01)",
    ),
    (
        "no point at all",
        0.01,
        [],
        "no operating point was tuned for an accuracy drop of at most 0.01; known are: none; 'backbone' by name loses "
        "nothing",
    ),
    ("a truth value", True, [LUCKY], "a max_accuracy_drop or budget must be a number; got True"),
]


@pytest.mark.parametrize(("wish", "points", "said"), [row[1:] for row in UNMET], ids=[row[0] for row in UNMET])
def test_a_wish_that_no_goal_meets(wish, points, said):
    with pytest.raises(OperatingPointError) as refused:
        file_of(*points).nearest(max_accuracy_drop=wish)
    assert str(refused.value) == said


BUDGETS = [
    ("by measured cost, whatever it was tuned for", 0.3, [LUCKY, UNLUCKY], "one"),
    ("the most accurate within", 0.55, [point("cheap", 0.1, drop=0.02), LUCKY, UNLUCKY], "one"),
    ("a budget's goal has no say", 0.25, [point("missed", 0.35, goal=Goal(budget=0.2)), SAFE], "safe"),
    ("the backbone for all it costs", 1, [UNLUCKY], "backbone"),
]


@pytest.mark.parametrize(("budget", "points", "name"), [row[1:] for row in BUDGETS], ids=[row[0] for row in BUDGETS])
def test_measured_cost_decides_on_a_budget(budget, points, name):
    assert file_of(*points).nearest(budget=budget).name == name
