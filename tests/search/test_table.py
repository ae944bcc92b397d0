import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_exit.search.outcomes import Chain
from dynamic_exit.search.table import Need, Table, grid_for
from dynamic_exit.search.thresholds import polish, score, spread


def chain_of(seed: int, stages: int, samples: int) -> Chain:
    random = np.random.default_rng(seed)
    confidence = np.round(random.random((stages, samples)), 1).astype(np.float32)
    right = random.random((stages + 1, samples)) < 0.6
    return Chain(tuple(range(stages)), confidence, right, np.sort(random.random(stages + 1)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), stages=st.integers(1, 3), samples=st.integers(1, 15))
def test_every_cell_counts_what_its_thresholds_do(seed, stages, samples):
    chain = chain_of(seed, stages, samples)
    table = Table(chain, grid_for(chain)[0])
    for where in itertools.product(*map(range, table.shape)):
        counted = score(chain, np.array([grid[i] for grid, i in zip(table.grids, where, strict=True)], np.float32))
        assert table.right[where] == counted.right
        np.testing.assert_allclose(table.cost[where], counted.cost)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), right=st.integers(0, 15))
def test_starts_that_lie_apart_meet_the_goal_and_begin_with_the_best(seed, right):
    chain = chain_of(seed, 2, 15)
    table, need = Table(chain, grid_for(chain)[0]), Need(right=right)
    starts = table.apart(need, 5)
    best = table.fit(need)
    if best is None:
        assert starts == []
        return
    assert starts[0].cost == best.cost
    assert all(start.right >= right and score(chain, start.thresholds).right == start.right for start in starts)
    assert [start.cost for start in starts] == sorted(start.cost for start in starts)
    last = [start.thresholds[-1] for start in starts]
    assert len(set(last)) == len(last)


def test_starts_from_elsewhere_find_a_better_place_than_moves_from_the_best_on_a_coarse_grid():
    better = 0
    for seed in range(20):
        chain = chain_of(seed, 3, 400)
        chain = Chain(chain.stages, np.random.default_rng(seed).random((3, 400), dtype=np.float32), *_rest(chain))
        need = Need(right=float(chain.right[-1].sum()))
        best = polish(chain, need, Table(chain, grid_for(chain, 64)[0]).fit(need) or score(chain, np.ones(3, "f4")))
        found = spread(chain, need, best, 12)
        assert found.right >= need.right and found.cost <= best.cost
        better += found.cost < best.cost - 1e-9
    assert better > 0


def _rest(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    return chain.right, chain.cost
