import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import savers

from dynamic_exit.search.outcomes import ChainOutcomes, OutcomeCache, Ranking
from dynamic_exit.search.table import Table, grid_for, thresholds_between
from dynamic_exit.search.targets import CountTarget
from dynamic_exit.search.thresholds import polish, rough_fits, score, spread


def chain_of(seed: int, stages: int, samples: int) -> ChainOutcomes:
    random = np.random.default_rng(seed)
    confidence = np.round(random.random((stages, samples)), 1).astype(np.float32)
    correct = random.random((stages + 1, samples)) < 0.6
    return ChainOutcomes(tuple(range(stages)), confidence, correct, np.sort(random.random(stages + 1)))


def test_a_ranking_is_a_stable_sort():
    random = np.random.default_rng(0)
    ties = np.concatenate([random.random(200).round(2), [0, -0.0, 1, 1e-40, np.nan, -np.nan]]).astype(np.float32)
    confidence = random.permutation(ties)
    ranking = Ranking.of(confidence)
    assert (ranking.order == np.argsort(confidence, kind="stable")).all()
    np.testing.assert_array_equal(ranking.confidence, np.sort(confidence))


def test_chains_that_share_stages_share_their_rankings_and_no_others():
    outcomes = OutcomeCache(savers(3, 80, 3), "mean")
    first, second = outcomes.chain((0, 1)), outcomes.chain((0, 2))
    assert first.ranking(0) is second.ranking(0)
    for chain in (first, second, first.take(np.arange(0, 80, 2))):
        for place, confidence in enumerate(chain.confidence):
            np.testing.assert_array_equal(chain.ranking(place).confidence, np.sort(confidence))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), stages=st.integers(1, 3), samples=st.integers(1, 15))
def test_every_cell_counts_what_its_thresholds_do(seed, stages, samples):
    chain = chain_of(seed, stages, samples)
    table = Table(chain, grid_for(chain)[0])
    for where in itertools.product(*map(range, table.shape)):
        counted = score(chain, np.array([grid[i] for grid, i in zip(table.grids, where, strict=True)], np.float32))
        assert table.correct[where] == counted.correct
        np.testing.assert_allclose(table.cost[where], counted.cost)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), correct=st.integers(0, 15))
def test_starts_that_lie_apart_meet_the_goal_and_begin_with_the_best(seed, correct):
    chain = chain_of(seed, 2, 15)
    table, target = Table(chain, grid_for(chain)[0]), CountTarget(correct=correct)
    starts = table.distant_fits(target, 5)
    best = table.fit(target)
    if best is None:
        # as near to the target as the grid allows
        assert starts[0].correct == table.correct.max()
        return
    assert starts[0].cost == best.cost
    assert all(start.correct >= correct and score(chain, start.thresholds).correct == start.correct for start in starts)
    assert [start.cost for start in starts] == sorted(start.cost for start in starts)
    last = [start.thresholds[-1] for start in starts]
    assert len(set(last)) == len(last)
    least = np.pad(np.where(table.correct >= correct, table.cost, np.inf).min(axis=0), 1, constant_values=np.inf)
    for start in starts:
        place = 1 + int(np.flatnonzero(table.grids[-1] == start.thresholds[-1])[0])
        assert least[place] == start.cost and least[place] <= min(least[place - 1], least[place + 1])


def test_starts_from_elsewhere_find_a_better_place_than_moves_from_one_start():
    better = 0
    for seed in range(20):
        chain = chain_of(seed, 3, 400)
        chain = ChainOutcomes(
            chain.stages, np.random.default_rng(seed).random((3, 400), dtype=np.float32), *_rest(chain)
        )
        target = CountTarget(correct=float(chain.correct[-1].sum()))
        best = polish(chain, target, score(chain, np.ones(3, "f4")))
        found = spread(chain, target, best, 12)
        assert found.correct >= target.correct and found.cost <= best.cost
        better += found.cost < best.cost - 1e-9
    assert better > 0


@pytest.mark.parametrize("seed", range(19, 24))
def test_starts_from_elsewhere_meet_goals_that_few_combinations_meet(seed):
    chain = hard_chain(seed, 60)
    every = Table(chain, [thresholds_between(chain.ranking(place).confidence) for place in range(3)])
    for less in range(4):
        target = CountTarget(correct=every.correct.max() - less)
        (rough,), _ = rough_fits(chain, [target])
        found = spread(chain, target, polish(chain, target, rough), 8)
        assert found.correct >= target.correct
        assert found.cost == pytest.approx(every.fit(target).cost, rel=1e-9)


def hard_chain(seed: int, samples: int) -> ChainOutcomes:
    """Three savers whose confidence says little: few combinations of thresholds are as accurate as any."""
    random = np.random.default_rng(seed)
    confidence = random.random((3, samples), dtype=np.float32)
    right = random.random((4, samples)) < np.concatenate([0.25 + 0.65 * confidence, np.full((1, samples), 0.75)])
    return ChainOutcomes((0, 1, 2), confidence, right, np.array([0.05, 0.35, 0.7, 1.75]))


def _rest(chain: ChainOutcomes) -> tuple[np.ndarray, np.ndarray]:
    return chain.correct, chain.cost
