"""The controller on a clock that is simulated, by the simulation of integration_tests/benchmarks/serving_load.py."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_exit.serving.controller import LoadController
from dynamic_exit.serving.gears import PointTimes, gear_table, planned_seconds

sys.path.insert(0, str(Path(__file__).parents[2] / "integration_tests" / "benchmarks"))
from serving_load import Answers, Controlled, Fixed, make_trace, simulate  # noqa: E402

GOAL = 0.1
TIMES = [
    PointTimes(name, drop, (1, 64), ((2 + a_row) / 1000, (2 + 64 * a_row) / 1000))
    for name, drop, a_row in (("exact", 0.0, 10.0), ("good", 0.004, 6.0), ("fast", 0.01, 4.0))
]


def controller(lowest=None, hold=1.0):
    return LoadController(gear_table(TIMES, GOAL, 64, lowest_point=lowest), GOAL, planned_seconds(GOAL), 64, hold)


def load(made, rate, begin, end, answered=0.01):
    """Let single rows arrive evenly, each answered at once; returns the points that were taken."""
    points = []
    for now in np.arange(begin, end, 1 / rate).tolist():
        made.arrived(now, 1)
        points.append(made.choose(now, 1, 0.0).point)
        made.finished(1, made.gear.times.batch_seconds(1))
        made.answered(now, answered)
    return points


def test_a_calm_server_takes_the_most_accurate_point():
    made = controller()
    assert set(load(made, 20, 0, 5)) == {"exact"} and made.shifts == {}
    assert made.slowness == pytest.approx(1) and made.rate == pytest.approx(20, rel=0.2)


def test_the_rate_of_rows_decides_and_a_cheaper_point_is_kept_for_a_while():
    made = controller(hold=2.0)
    rates = [gear.rows_per_second for gear in made.gears]
    load(made, 20, 0, 3)
    assert load(made, (rates[0] + rates[1]) / 2, 3, 6)[-1] == "good"
    assert load(made, (rates[1] + rates[2]) / 2, 6, 9)[-1] == "fast"
    assert set(load(made, 20, 9, 10.9)) == {"fast"}, "not before it is calm for two seconds"
    assert load(made, 20, 10.9, 15)[-1] == "exact"
    assert made.shifts[("good", "rate")] == 1 and made.shifts[("exact", "calm")] == 1


def test_rows_that_wait_decide_at_once():
    made = controller()
    assert made.choose(0.0, 3, 0.0).point == "exact"
    assert made.choose(0.1, 6, 0.0).point == "good"
    assert made.choose(0.2, 9, 0.0).point == "fast"
    assert made.shifts == {("good", "queue"): 1, ("fast", "queue"): 1}
    assert controller().choose(0.0, 1, 0.03).point == "good", "the oldest has waited"


def test_what_is_late_anyway_goes_in_large_batches():
    made = controller()
    assert made.choose(0.0, 9, 0.0).batch == made.gear.batch < 64
    assert made.choose(0.1, 200, 0.5).batch == 64


def test_late_answers_ask_for_a_cheaper_point_whatever_the_load():
    made = controller()
    assert load(made, 20, 0, 1.9, answered=0.2)[-1] == "good"
    assert load(made, 20, 1.9, 3.5, answered=0.2)[-1] == "fast"
    assert load(made, 20, 3.5, 9)[-1] == "exact"
    assert made.shifts[("good", "late")] == 1


def test_a_slow_machine_is_found_out():
    made, fresh = controller(), controller().gears
    for _ in range(400):
        made.choose(0.0, 2, 0.0)
        made.finished(2, 2 * made.gear.times.batch_seconds(2))
    assert made.slowness == pytest.approx(2, rel=0.01)
    for here, there in zip(made.gears, fresh, strict=True):
        assert here.rows_per_second < 0.55 * there.rows_per_second and here.batch < there.batch


def bursts(way, seconds=30, seed=0, slowness=1.0, base=31.0):
    """What a way of choosing makes of a bursty load: the share of seconds that are kept, and the mean accuracy."""
    rng = np.random.default_rng(seed)
    answers = {
        each.point: Answers(rng.choice([0.5, 1.5], 500), rng.random(500) > 0.1 + each.accuracy_drop) for each in TIMES
    }
    arrivals = make_trace(base, seconds, seed=seed)
    samples = rng.integers(0, 500, len(arrivals))
    found = simulate(arrivals, samples, answers, way(arrivals), slowness)
    lost = np.mean([next(each.accuracy_drop for each in TIMES if each.point == point) for point in found.points])
    return found.kept(arrivals, GOAL), lost, found


@pytest.mark.parametrize("seed", [0, 1])
def test_bursts_keep_the_goal_at_less_loss_than_the_fastest_point(seed):
    default, default_lost, _ = bursts(lambda arrivals: Fixed(TIMES[0]), seed=seed)
    fastest, fastest_lost, _ = bursts(lambda arrivals: Fixed(TIMES[2]), seed=seed)
    kept, lost, found = bursts(lambda arrivals: Controlled(controller(), arrivals), seed=seed)
    assert default <= 0.6 and kept >= 0.95 and fastest - kept <= 1 / 30
    assert default_lost == 0 and fastest_lost == pytest.approx(0.01) and 0 < lost < 0.0095
    assert (found.latencies > 0).all() and set(found.points) == {"exact", "good", "fast"}


def test_a_machine_of_half_the_speed_keeps_the_goal_too():
    kept, _, _ = bursts(lambda arrivals: Controlled(controller(), arrivals), slowness=2.0, base=13.0)
    assert kept >= 0.95


def test_the_lowest_point_holds_whatever_the_load():
    _, _, found = bursts(lambda arrivals: Controlled(controller("good"), arrivals), base=200.0, seconds=10)
    assert set(found.points) <= {"exact", "good"} and found.points[-1] == "good"


def test_the_same_load_gives_the_same_choices():
    first, second = (bursts(lambda arrivals: Controlled(controller(), arrivals), seconds=10)[2] for _ in range(2))
    assert first.points == second.points and np.array_equal(first.latencies, second.latencies)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 300), st.floats(0, 5)), min_size=1, max_size=40))
def test_any_load_gets_a_gear_of_the_table(steps):
    made, now = controller(), 0.0
    for wait, rows, seconds in steps:
        now += wait
        made.arrived(now, rows)
        gear = made.choose(now, rows, seconds)
        assert gear.point in {"exact", "good", "fast"} and 1 <= gear.batch <= 64
        made.finished(min(rows, gear.batch), seconds + 1e-6)
        made.answered(now, seconds)
        assert made.rate >= 0 and made.slowness > 0


def test_a_trace_has_bursts_of_five_times_the_rate():
    counts = np.bincount(np.floor(make_trace(100.0, 300.0)).astype(int), minlength=300)
    assert np.median(counts[counts < 200]) == pytest.approx(100, rel=0.1)
    assert np.median(counts[counts > 400]) == pytest.approx(500, rel=0.1)
    assert np.array_equal(make_trace(10.0, 20.0, seed=3), make_trace(10.0, 20.0, seed=3))
