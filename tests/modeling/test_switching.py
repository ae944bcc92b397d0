"""Switching the operating point: at once, and never seen half done."""

import concurrent.futures
import statistics
import threading
import time

import numpy as np
import pytest
import tiny

from dynamic_exit import DynamicExitModelForImageClassification as Model
from dynamic_exit.errors import OperatingPointError

INPUTS = tiny.samples("test")[0][:16]
SWITCHES, CALLERS = 1000, 8


@pytest.fixture(params=["ran", "ran_segments"])
def model(request):
    """The single file, and the folder of segments."""
    return Model.from_pretrained(request.getfixturevalue(request.param).folder)


def test_every_answer_of_eight_threads_is_one_points_while_a_ninth_switches(model):
    expected = {}
    for name in ("backbone", model.operating_points.names[1]):
        model.set_operating_point(name)
        answer = model(INPUTS)
        expected[name] = [answer.logits.tobytes(), answer.exit_index.tobytes(), answer.confidence.tobytes()]
    names, known = list(expected), list(expected.values())
    assert all(one != other for one, other in zip(*known, strict=True)), "else nothing could be told apart"
    done = threading.Event()

    def call():
        seen = []
        while not done.is_set():
            answer = model(INPUTS)
            mine = [answer.logits.tobytes(), answer.exit_index.tobytes(), answer.confidence.tobytes()]
            seen.append(known.index(mine))  # an answer of neither point ends the test here
        return seen

    def switch():
        try:
            for turn in range(SWITCHES):
                model.set_operating_point(names[turn % 2])
                if turn % 10 == 0:
                    time.sleep(0.001)  # lets callers in
        finally:
            done.set()

    with concurrent.futures.ThreadPoolExecutor(CALLERS + 1) as pool:
        callers = [pool.submit(call) for _ in range(CALLERS)]
        pool.submit(switch).result()
        seen = [place for caller in callers for place in caller.result()]
    assert set(seen) == {0, 1}


def test_a_switch_takes_less_than_a_millisecond(model):
    names = (*model.operating_points.names, "backbone")
    times = []
    for turn in range(200):
        before = time.perf_counter()
        model.set_operating_point(names[turn % len(names)])
        times.append(time.perf_counter() - before)
    assert statistics.median(times) < 0.001


def test_thresholds_of_one_call_leave_the_point_in_force(model):
    point, before = model.operating_point, model(INPUTS)
    off = [np.inf] * len(model.stages)
    backbone = model(INPUTS, thresholds=off)
    assert set(backbone.exit_index) == {len(model.stages)}
    first = model(INPUTS, thresholds=[0.0, *off[1:]])
    assert set(first.exit_index) == {0}
    assert model.operating_point == point
    assert np.array_equal(model(INPUTS).logits, before.logits)
    model.set_operating_point("backbone")
    assert np.array_equal(model(INPUTS).logits, backbone.logits)


def test_thresholds_of_another_count_or_no_numbers_are_refused(model):
    stages = ", ".join(model.stages)
    with pytest.raises(OperatingPointError) as refused:
        model(INPUTS, thresholds=[0.5])
    assert str(refused.value) == (
        f"1 thresholds came in for a chain of {len(model.stages)}; give one for each of {stages}"
    )
    given = [0.5] * (len(model.stages) - 1) + [float("nan")]
    with pytest.raises(OperatingPointError) as refused:
        model(INPUTS, thresholds=given)
    assert str(refused.value) == f"a threshold must be a number; got {given} for {stages}"
