"""Answers that are better than chance and answers that are not, by hand and against every permutation."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from dynamic_exit.core.chance import (
    BACKBONE_LEVEL,
    CANDIDATE_LEVEL,
    can_tell,
    is_more_accurate,
    no_better_than_chance,
    no_better_than_commonest,
)


def shares(*counts):
    """Labels 0, 1, ... as often as told."""
    return np.repeat(np.arange(len(counts)), counts)


def with_right(truth, right, classes=None):
    """Answers of which the first so many of each class are right, the others the next class."""
    classes, answers = classes or truth.max() + 1, (truth + 1) % (classes or truth.max() + 1)
    for label, count in enumerate(right):
        rows = np.flatnonzero(truth == label)[:count]
        answers[rows] = label
    return answers


BALANCED, FIVE, RARE, MANY = shares(250, 250), shares(*[100] * 5), shares(970, 30), np.arange(500) * 2
CHANCE = {
    "two classes, 49 %": (with_right(BALANCED, (120, 125)), BALANCED, "49.0% of 500 right, 50.0% by chance"),
    "five classes, 1 %": (with_right(FIVE, [1] * 5), FIVE, "1.0% of 500 right, 20.0% by chance"),
    "two classes, 53 %": (with_right(BALANCED, (140, 125)), BALANCED, "53.0% of 500 right, 50.0% by chance"),
    "two classes, 60 %": (with_right(BALANCED, (150, 150)), BALANCED, None),
    "always the commonest": (np.zeros(1000, int), RARE, "97.0% of 1000 right, 97.0% by chance"),
    "always the rare": (np.ones(1000, int), RARE, "3.0% of 1000 right, 3.0% by chance"),
    "97 : 3, half of the rare found": (with_right(RARE, (968, 15)), RARE, None),
    "97 : 3, no gain over the commonest": (with_right(RARE, (955, 15)), RARE, None),
    "97 : 3, rare ones at random": (with_right(RARE, (941, 1)), RARE, "94.2% of 1000 right, 94.2% by chance"),
    "97 : 3, the commonest class is better": (
        with_right(RARE, (600, 30)), RARE, "63.0% of 1000 right, 97.0% with the commonest class alone",
    ),
    "97 : 3 of few": (with_right(shares(97, 3), (97, 2)), shares(97, 3), None),
    "a thousand classes, 10 %": (np.where(np.arange(500) < 50, MANY, MANY + 1), MANY, None),
    "a thousand classes, two right": (
        np.where(np.arange(500) < 2, MANY, np.roll(MANY, 1)), MANY, "0.4% of 500 right, 0.2% by chance",
    ),
    "classes that no label has": (BALANCED + 7, BALANCED, "0.0% of 500 right, 0.0% by chance"),
    "three of four, too few to tell": (np.array([0, 1, 1, 1]), np.array([0, 0, 1, 1]), None),
    "none of four, too few to tell": (np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]), None),
    "ten of ten": (shares(5, 5), shares(5, 5), None),
    "six of ten": (with_right(shares(5, 5), (3, 3)), shares(5, 5), "60.0% of 10 right, 50.0% by chance"),
    "labels of one class": (np.arange(50) % 2, np.zeros(50, int), None),
    "unknown labels do not count": (
        np.append(with_right(BALANCED, (120, 125)), np.zeros(400, int)), np.append(BALANCED, np.full(400, -1)),
        "49.0% of 500 right, 50.0% by chance",
    ),
    "no label known": (np.zeros(50, int), np.full(50, -1), None),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANCE)
def test_chance(kind):
    answers, truth, reason = CHANCE[kind]
    assert no_better_than_chance(answers, truth) == (reason and f"no better than chance: {reason}")


def test_the_first_test_is_that_of_all_ways_to_deal_out_the_answers():
    """Held against every permutation, where these are few enough to count."""
    random = np.random.default_rng(0)
    compared = 0
    for _ in range(150):
        truth, answers = random.integers(3, size=7), random.integers(3, size=7)
        answers = np.where(random.random(7) < 0.8, truth, answers)
        right = (answers == truth).sum()
        orders = np.array([truth[list(order)] for order in itertools.permutations(range(7))])
        share = ((orders == answers).sum(1) >= right).mean()
        best = ((orders == truth).all(1)).mean()
        assert can_tell(truth) == (best <= CANDIDATE_LEVEL)
        if can_tell(truth) and not CANDIDATE_LEVEL / 2 < share < 2 * CANDIDATE_LEVEL:  # deals leave that undecided
            compared += 1
            found = no_better_than_chance(answers, truth)
            assert (found is None) == (share <= CANDIDATE_LEVEL), (answers, truth, share)
    assert compared > 40


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.97, 0.03), [0.1] * 10, [0.002] * 500], ids=len)
def test_chance_passes_rarely(weights):
    random, draws = np.random.default_rng(1), 100
    passed = 0
    for _ in range(draws):
        truth, answers = (random.choice(len(weights), size=200, p=weights) for _ in range(2))
        passed += can_tell(truth) and no_better_than_chance(answers, truth) is None
    assert passed <= 3 + 3 * CANDIDATE_LEVEL * draws


@pytest.mark.parametrize(
    ("wins", "losses", "expected"),
    [(5, 0, True), (4, 0, False), (8, 1, True), (7, 1, True), (6, 1, False), (0, 5, False), (0, 0, False)],
)
def test_mcnemars_test_by_hand(wins, losses, expected):
    """P(at most l of w + l tosses): 1/32, 1/16, 10/512, 9/256, 8/128."""
    correct = np.repeat([True, False, True], [wins, losses, 3])
    other = np.repeat([False, True, True], [wins, losses, 3])
    assert is_more_accurate(correct, other, BACKBONE_LEVEL) == expected


@pytest.mark.parametrize(
    ("answers", "truth", "expected"),
    [
        (np.zeros(40, int), shares(30, 10), True),
        (shares(30, 10), shares(30, 10), False),
        (np.zeros(34, int), shares(30, 4), False),  # of four samples not even a perfect backbone could tell
        (with_right(shares(50, 50), (30, 30)), shares(50, 50), True),
        (with_right(shares(50, 50), (40, 40)), shares(50, 50), False),
    ],
)
def test_a_backbone_is_compared_with_the_commonest_class(answers, truth, expected):
    assert no_better_than_commonest(answers, truth) == expected


@pytest.mark.parametrize("losses", [0, 1, 7, 60])
@pytest.mark.parametrize("level", [CANDIDATE_LEVEL, BACKBONE_LEVEL])
def test_the_fewest_wins_that_are_enough_are_those_of_exact_arithmetic(losses, level):
    def enough(wins):
        as_extreme = sum(math.comb(wins + losses, heads) for heads in range(losses + 1))
        return as_extreme <= Fraction(level) * 2 ** (wins + losses)

    fewest = next(wins for wins in itertools.count(losses + int(1.5 * losses**0.5)) if enough(wins))
    for wins in (fewest - 1, fewest):
        correct = np.repeat([True, False], [wins, losses])
        assert is_more_accurate(correct, ~correct, level) is (wins == fewest)
