import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_exit.search.outcomes import ChainOutcomes
from dynamic_exit.search.table import Table, grid_for
from dynamic_exit.search.thresholds import score


def chain_of(seed: int, stages: int, samples: int) -> ChainOutcomes:
    random = np.random.default_rng(seed)
    confidence = np.round(random.random((stages, samples)), 1).astype(np.float32)
    correct = random.random((stages + 1, samples)) < 0.6
    return ChainOutcomes(tuple(range(stages)), confidence, correct, np.sort(random.random(stages + 1)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), stages=st.integers(1, 3), samples=st.integers(1, 15))
def test_every_cell_counts_what_its_thresholds_do(seed, stages, samples):
    chain = chain_of(seed, stages, samples)
    table = Table(chain, grid_for(chain)[0])
    for where in itertools.product(*map(range, table.shape)):
        counted = score(chain, np.array([grid[i] for grid, i in zip(table.grids, where, strict=True)], np.float32))
        assert table.correct[where] == counted.correct
        np.testing.assert_allclose(table.cost[where], counted.cost)
