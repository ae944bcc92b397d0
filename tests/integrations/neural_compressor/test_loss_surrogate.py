"""What thresholds are expected to save, beside the same worked out by hand."""

from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pytest

from dynamic_exit.integrations.neural_compressor.loss_surrogate import LossSurrogate
from dynamic_exit.records import Records, StageTable

OFF = float("inf")


def model(kinds=("saver",), positions=(-1,)):
    """100 samples: of the surest 50 every stage answers as the final does, of the others the other class."""
    sure = np.linspace(0.995, 0.505, 100)
    stage = np.where(np.arange(100)[:, None] < 50, [1.0, 0.0], [0.0, 1.0])
    probabilities = np.where(stage > 0, sure[:, None], 1 - sure[:, None]).astype(np.float32)
    final = np.tile(np.float32([0.9, 0.1]), (100, 1))
    names = [f"stage{place}" for place in range(len(kinds))]
    records = Records.from_probabilities(
        np.full(100, -1),
        StageTable.of(
            [*names, "final"],
            [*kinds, "final"],
            [*positions, 9],
            [0.1] * len(kinds) + [0.0],
            [0.0] * len(kinds) + [1.0],
        ),
        [probabilities] * len(kinds) + [final],
    )
    return SimpleNamespace(chain=tuple(names), fuse="none", records=records)


def expected_of(model):
    return LossSurrogate(model, model.records)


def test_the_expected_saving_is_what_is_saved_times_the_probability_that_the_loss_is_tolerable():
    # at 0.703 sixty leave, ten of them with another answer; all of those turn out lost
    expected = expected_of(model())
    expected.observe((0.703,), 0.10)
    saving, thresholds, cost = expected.propose((0.703,), 0.50, 0.05)
    leave = (np.linspace(0.995, 0.505, 100).astype(np.float32) > thresholds[0]).sum()
    assert cost == pytest.approx(0.10 + (100 - leave) / 100) and 0.25 <= cost <= 0.495
    precision = 1 / 0.4**2 + 0.1**2 / 0.003**2
    weight = (0.4 / 0.4**2 + 0.1 * 0.10 / 0.003**2) / precision
    share = (leave - 50) / 100
    foretold = NormalDist(share * weight, (share**2 / precision + 0.003**2) ** 0.5)
    assert saving == pytest.approx((0.50 - cost) * foretold.cdf(0.05), rel=1e-6)


def test_stages_whose_other_answers_lose_nothing_are_trusted():
    losing, harmless = expected_of(model()), expected_of(model())
    losing.observe((0.7,), 0.10)
    harmless.observe((0.7,), 0.0)
    assert harmless.propose((0.7,), 0.5, 0.01)[0] > 10 * losing.propose((0.7,), 0.5, 0.01)[0]


def test_what_was_scored_is_not_proposed_again():
    expected, seen = expected_of(model()), set()
    while (found := expected.propose((0.7,), 0.5, 0.01)) is not None:
        assert found[1] not in seen
        seen.add(found[1])
        expected.observe(found[1], 0.02)
    assert seen


def test_of_two_exits_at_one_position_at_most_one_is_proposed():
    expected = expected_of(model(("exit", "exit"), (3, 3)))
    for _ in range(5):
        _, thresholds, _ = expected.propose((0.9, OFF), 1.0, 0.1)
        assert OFF in thresholds
        expected.observe(thresholds, 0.0)
