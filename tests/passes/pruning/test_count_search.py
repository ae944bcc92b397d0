"""The smallest number of blocks that is enough, against trying every one."""

import math

import numpy as np
import pytest

from dynamic_exit.passes.pruning.count_search import CountSearch

GENERATOR = np.random.default_rng(0)
#: What remains after each block, from 1 down: as each block takes alike, most at first, most at last, or one takes all.
TAKEN = {
    "alike": np.ones(900),
    "at random": GENERATOR.random(900),
    "first": np.linspace(1, 0, 900) ** 9,
    "last": np.linspace(0, 1, 900) ** 9,
    "nearly nothing": GENERATOR.random(900) ** 40,
    "one": np.eye(1, 900, 700)[0],
    "a single block": np.ones(1),
}


def smallest(left, target):
    """The number found, and how many were tried."""
    search = CountSearch(below=-1, enough=len(left) - 1, above=1 - target, under=left[-1] - target)
    tried = 0
    while (count := search.next()) is not None:
        assert search.below < count < search.enough
        assert search.tell(count, left[count] - target) == (left[count] <= target)
        tried += 1
    return search.enough, tried


@pytest.mark.parametrize("taken", TAKEN)
def test_it_is_the_first_that_is_enough(taken):
    steps = TAKEN[taken]
    left = np.concatenate([[1], 1 - 0.9 * np.cumsum(steps) / steps.sum()])
    for target in (0.1001, 0.3, 0.5, 0.77, 0.999, left[len(left) // 2]):
        found, tried = smallest(left, target)
        assert found == int(np.argmax(left <= target))
        assert tried <= 4 * math.log2(len(left)) + 4


def test_none_is_enough_already():
    assert smallest(np.array([0.4, 0.3, 0.2]), 0.5)[0] == 0


def test_few_are_tried_where_blocks_take_alike():
    assert all(smallest(np.linspace(1, 0.1, 901), target)[1] <= 3 for target in (0.2, 0.5, 0.9))
