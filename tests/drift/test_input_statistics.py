import numpy as np
import pytest
import torch

from dynamic_exit.drift import STATISTICS, Signal, Tokens
from dynamic_exit.drift.input_statistics import compute, kind_of, looked_at, statistics_for

SIGNALS = tuple(name for name, each in STATISTICS.items().items() if each.kind == "signal")
SHAPES = [(8,), (3, 100), (3, 8, 8), (8, 8, 3), (1, 40, 40), (2, 3, 4, 8), (12, 5000), (700, 4)]


def figures(values, names=SIGNALS):
    return compute({"x": names}, {"x": looked_at(values, "signal")}, {})


def of_signal(name, numbers):
    return STATISTICS.find(name).compute(Signal(np.asarray(numbers, np.float32).reshape(1, 1, 1, -1)))[0]


def test_statistics_of_signals_by_hand():
    numbers = [0, 2, 0, 4]  # steps 2, -2, 4; they differ by -4, 6
    spread = np.std(numbers)
    assert of_signal("mean", numbers) == 1.5 and of_signal("spread", numbers) == pytest.approx(spread)
    assert of_signal("roughness", numbers) == pytest.approx((8 / 3) / spread)
    assert of_signal("fineness", numbers) == pytest.approx(5 / (8 / 3))
    assert of_signal("fineness", [1, 3, 5, 7]) == 0, "a slope"
    # channels that differ by 0, 2, 0, 4
    both = Signal(np.float32([[[[1, 1, 5, 2]], [[1, 3, 5, 6]]]]))
    assert STATISTICS.find("channel_fineness").compute(both)[0] == pytest.approx(5 / (8 / 3))


def test_statistics_of_tokens_by_hand():
    ids = np.array([[5, 9, 7, 0, 0], [5, 5, 5, 5, 8]])
    tokens = Tokens(ids, ids != 0, np.array([5, 7]))
    assert STATISTICS.find("length").compute(tokens).tolist() == [3, 5]
    assert STATISTICS.find("rare_tokens").compute(tokens) == pytest.approx([1 / 3, 1 / 5])
    nothing = Tokens(ids, np.zeros(ids.shape, bool), np.array([5, 7]))
    assert STATISTICS.find("rare_tokens").compute(nothing).tolist() == [0, 0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_signals_of_all_shapes_are_looked_at_in_bounded_time(shape):
    values = np.random.default_rng(0).random((3, *shape), dtype=np.float32)
    seen = looked_at(values, "signal")
    assert seen.ndim == 4 and seen.dtype == np.float32 and len(seen) == 3 and seen[0].size <= 2 * 512
    names = statistics_for(seen, "signal")
    assert {"mean", "spread", "roughness", "fineness"} <= {*names}
    found = figures(values, tuple(names))
    assert np.isfinite(found).all() and found.shape == (3, len(names))
    # of torch as of numpy, and whatever else is in the batch
    assert np.array_equal(figures(torch.from_numpy(values), tuple(names)), found)
    assert np.array_equal(figures(values[2:], tuple(names)), found[2:])
    values[:] = 0
    assert seen.any(), "a copy"


def test_channels_may_come_last():
    images = np.random.default_rng(0).integers(256, size=(4, 3, 16, 16), dtype=np.uint8)
    last = images.transpose(0, 3, 2, 1)
    assert np.array_equal(looked_at(last, "signal"), looked_at(images, "signal"))
    assert np.array_equal(figures(images), figures(images.astype(np.float32)))


@pytest.mark.parametrize("fill", [0, 7, np.nan, np.inf, -np.inf, 3e38])
def test_statistics_of_odd_samples_are_finite(fill):
    assert np.isfinite(figures(np.full((2, 3, 8, 8), fill, np.float32))).all()


def test_many_samples_give_what_each_gives():
    values = np.random.default_rng(1).random((150, 3, 9, 9), dtype=np.float32)
    assert np.array_equal(figures(values), np.concatenate([figures(values[i : i + 1]) for i in range(150)]))


def test_what_an_input_is_taken_for():
    assert kind_of(np.zeros((2, 5), np.int64)) == "tokens"
    assert kind_of(np.zeros((2, 5), np.float16)) == kind_of(np.zeros((2, 3, 4, 4), np.uint8)) == "signal"
    assert kind_of(np.zeros((2, 5), bool)) is None and kind_of(np.zeros(2, np.float32)) is None
    half = torch.ones(2, 3, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    assert looked_at(half, "signal").max() == 1
