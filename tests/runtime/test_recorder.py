"""Records made by several threads are those made by one, batch by batch and in order."""

import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

from dynamic_exit.core.batching import DEFAULT_BATCH_SIZE, map_in_threads
from dynamic_exit.cost import ChainCost
from dynamic_exit.errors import ModelError
from dynamic_exit.runtime.model import DynamicExitModel
from dynamic_exit.runtime.recorder import Answers, answer_batches, make_records

INPUTS = np.random.default_rng(0).normal(size=(7 * DEFAULT_BATCH_SIZE + 5, 4)).astype(np.float32)
LABELS = np.arange(len(INPUTS)) % 3
COSTS = ChainCost({"exit": 1.0, "final": 0.0}, {"exit": 2.0, "final": 5.0})
POSITIONS = {"exit": 0, "final": 1}


def model():
    torch.manual_seed(0)
    segments = [nn.Linear(4, 8).eval(), nn.Linear(8, 3).eval()]
    return DynamicExitModel(segments, input_names=["x"], exits={"exit": (0, nn.Linear(8, 3).eval())})


@pytest.mark.parametrize("workers", [2, 5])
def test_records_are_the_same_with_more_threads(workers):
    one, more = (make_records(model(), [INPUTS], LABELS, COSTS, POSITIONS, workers=count) for count in (1, workers))
    assert np.array_equal(one.topk_classes, more.topk_classes)
    assert np.array_equal(one.topk_probabilities, more.topk_probabilities)
    assert more.topk_classes.shape == (2, len(INPUTS), 3)


def test_no_gradients_are_kept_in_any_thread():
    layer = nn.Linear(4, 3)
    seen = []

    def run(batch):
        seen.append(layer(batch).requires_grad)
        return layer(batch)

    found = Answers.join([*answer_batches("layer", run, [INPUTS], workers=3)])
    assert len(found) == len(INPUTS) and not any(seen)


def test_a_stage_that_gives_nan_is_named_from_any_thread():
    def run(batch):
        return torch.full((len(batch), 3), torch.nan)

    with pytest.raises(ModelError, match="'broken'"):
        list(answer_batches("broken", run, [INPUTS], workers=3))


def test_progress_is_logged_where_samples_are_many(log_lines):
    many = np.resize(INPUTS, (100 * DEFAULT_BATCH_SIZE, 4))
    make_records(model(), [many], np.zeros(len(many), np.int64), COSTS, POSITIONS, workers=2)
    assert log_lines == [f"records: {share}0% of 6400 samples" for share in range(1, 11)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_items_come_in_order_and_only_so_many_are_taken_ahead(workers):
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    def slow_when_even(number):
        time.sleep(0.002 * (number % 2 == 0))
        return number

    for expected, found in enumerate(map_in_threads(slow_when_even, items(), workers)):
        assert found == expected
        assert len(taken) <= expected + 1 + 2 * workers


def test_the_first_item_is_run_alone_and_the_rest_together():
    running, most, first_done = 0, 0, threading.Event()
    lock = threading.Lock()

    def run(number):
        nonlocal running, most
        assert number == 0 or first_done.is_set()
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        first_done.set()
        return number

    assert list(map_in_threads(run, range(12), 3)) == list(range(12))
    assert most == 3


def test_no_further_item_is_run_once_nobody_asks():
    done = []
    numbers = map_in_threads(lambda number: done.append(number) or time.sleep(0.005), range(1000), 2)
    for _ in range(3):
        next(numbers)
    numbers.close()
    assert len(done) < 20
