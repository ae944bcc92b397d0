import threading
from concurrent.futures import wait

import numpy as np
import pytest

from dynamic_exit.serving import Answered, BatchQueue


class Doubling:
    """Answers twice what comes in, counts the rows of every call, and waits at a gate that can be closed."""

    def __init__(self):
        self.calls, self.gate, self.entered = [], threading.Event(), threading.Semaphore(0)
        self.gate.set()

    def __call__(self, feeds):
        values = feeds["x"]
        self.calls.append(len(values))
        self.entered.release()
        assert self.gate.wait(60)
        if (values < 0).any():
            raise ValueError("negative")
        column = values.reshape(len(values), -1)[:, 0]
        return Answered(2 * values, column.astype(np.int64), column, "point")


@pytest.fixture
def model():
    return Doubling()


def occupied(model, queue):
    """Keep the model busy with one row, so that what follows waits together."""
    model.gate.clear()
    first = queue.submit({"x": np.ones((1, 2))})
    assert model.entered.acquire(timeout=60)
    return first


def test_what_waits_is_answered_together_and_each_gets_its_own_rows(model):
    queue = BatchQueue(model, max_batch=8)
    first = occupied(model, queue)
    sent = [np.full((rows, 2), number, np.float32) for number, rows in enumerate((1, 3, 2, 2, 1), start=2)]
    answers = [queue.submit({"x": array}) for array in sent]
    assert queue.rows == 9
    model.gate.set()
    for array, answer in zip(sent, answers, strict=True):
        assert np.array_equal(answer.result(60).logits, 2 * array)
        assert answer.result().exit_index.tolist() == [int(array[0, 0])] * len(array)
    queue.close()
    assert first.done() and model.calls == [1, 8, 1], "eight rows fit, the ninth goes alone"


def test_other_shapes_and_types_wait_for_a_call_of_their_own_and_nobody_is_overtaken_for_ever(model):
    queue = BatchQueue(model, max_batch=8)
    occupied(model, queue)
    sent = [np.ones((2, 3), np.float32), np.ones((2, 4), np.float32), np.ones((1, 3), np.float32), np.ones((1, 3))]
    answers = [queue.submit({"x": array}) for array in sent]
    model.gate.set()
    assert [answer.result(60).logits.shape for answer in answers] == [array.shape for array in sent]
    queue.close()
    assert model.calls == [1, 3, 2, 1]


def test_a_request_larger_than_a_batch_goes_alone(model):
    queue = BatchQueue(model, max_batch=4)
    occupied(model, queue)
    answers = [queue.submit({"x": np.ones((rows, 1))}) for rows in (9, 2)]
    model.gate.set()
    wait(answers, 60)
    queue.close()
    assert model.calls == [1, 9, 2]


def test_a_bad_request_takes_no_other_with_it(model):
    queue = BatchQueue(model)
    occupied(model, queue)
    good, bad, fine = (queue.submit({"x": np.full((1, 1), value)}) for value in (1.0, -1.0, 3.0))
    model.gate.set()
    assert (good.result(60).logits, fine.result(60).logits) == (2, 6)
    with pytest.raises(ValueError, match="negative"):
        bad.result(60)
    queue.close()


def test_what_was_cancelled_is_left_out(model):
    queue = BatchQueue(model)
    occupied(model, queue)
    gone, kept = (queue.submit({"x": np.ones((1, 1))}) for _ in range(2))
    assert gone.cancel()
    model.gate.set()
    kept.result(60)
    queue.close()
    assert model.calls == [1, 1]


def test_closing_answers_all_that_waits_and_takes_no_more(model):
    queue = BatchQueue(model, max_batch=2, max_delay=3600)
    answers = [queue.submit({"x": np.full((1, 1), number)}) for number in range(5)]
    queue.close()
    assert [answer.result(0).logits.item() for answer in answers] == [0, 2, 4, 6, 8]
    with pytest.raises(RuntimeError, match="closed"):
        queue.submit({"x": np.ones((1, 1))})


def test_a_limit_is_asked_before_each_batch_for_how_many_rows_go_together(model):
    asked = []

    def limit(rows, waited):
        asked.append(rows)
        assert waited >= 0
        return (8, 2, 3, 1)[len(asked) - 1]

    queue = BatchQueue(model, max_batch=8, limit=limit)
    occupied(model, queue)
    answers = [queue.submit({"x": np.full((1, 1), number)}) for number in range(6)]
    model.gate.set()
    assert [answer.result(60).logits.item() for answer in answers] == [0, 2, 4, 6, 8, 10]
    queue.close()
    assert model.calls == [1, 2, 3, 1] and asked == [1, 6, 4, 1]


def test_a_delay_ends_as_soon_as_a_batch_is_full(model):
    queue = BatchQueue(model, max_batch=2, max_delay=3600)
    answers = [queue.submit({"x": np.ones((1, 1))}) for _ in range(2)]
    wait(answers, 60)
    assert model.calls == [2]
    queue.close()
