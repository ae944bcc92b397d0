import json

import pytest

from dynamic_exit.errors import ServingError
from dynamic_exit.points.operating_point import OperatingPoints
from dynamic_exit.serving.gears import PointTimes, gear_table, make_gear, planned_seconds, read_point_times


def times(point, drop, a_call, a_row, rows=(1, 64)):
    """Of a point whose batches take some milliseconds a call and a row."""
    return PointTimes(point, drop, tuple(rows), tuple((a_call + a_row * each) / 1000 for each in rows))


EXACT, GOOD, FAST = times("exact", 0.0, 2, 4), times("good", 0.004, 2, 2), times("fast", 0.02, 2, 1)


def test_seconds_lie_on_lines_between_what_was_timed_and_beyond():
    found = PointTimes("p", 0.0, (1, 8, 64), (0.010, 0.024, 0.080))
    assert [round(1000 * found.batch_seconds(rows), 6) for rows in (1, 2, 8, 36, 64, 120)] == [10, 12, 24, 52, 80, 136]
    alone = PointTimes("p", 0.0, (8,), (0.024,))
    assert [round(1000 * alone.batch_seconds(rows), 6) for rows in (1, 8, 16)] == [24, 24, 48]


@pytest.mark.parametrize("planned", [0.014, 0.04, 0.3])
@pytest.mark.parametrize("slowness", [1.0, 1.7])
def test_a_batch_is_the_largest_of_which_two_keep_the_goal(planned, slowness):
    gear = make_gear(GOOD, planned, 64, slowness)
    fitting = [rows for rows in range(1, 65) if 2 * slowness * GOOD.batch_seconds(rows) <= planned]
    assert gear.batch == max(fitting)
    assert 0 < gear.rows_per_second < gear.batch / (slowness * GOOD.batch_seconds(gear.batch))


def test_a_point_that_is_too_slow_for_single_rows_carries_nothing():
    assert make_gear(EXACT, 0.0119, 64)[1:] == (64, 0.0)
    assert make_gear(EXACT, 0.0121, 64).batch == 1


def test_rows_that_wait_take_whole_batches_and_the_rest():
    gear = make_gear(GOOD, 0.04, 64)
    assert gear.batch == 9
    assert gear.drain_seconds(20) == pytest.approx(2 * 0.020 + 0.006) and gear.drain_seconds(0) == 0


def test_the_table_goes_from_accurate_to_fast_without_points_that_lose_in_both():
    beaten = times("beaten", 0.005, 2, 3)
    gears = gear_table([FAST, beaten, EXACT, GOOD], 0.05, 64)
    assert [gear.point for gear in gears] == ["exact", "good", "fast"]
    assert sorted(gear.rows_per_second for gear in gears) == [gear.rows_per_second for gear in gears]


@pytest.mark.parametrize(("lowest", "points"), [("fast", 3), ("good", 2), ("exact", 1), (None, 3)])
def test_no_point_is_below_the_lowest(lowest, points):
    assert len(gear_table([FAST, GOOD, EXACT], 0.05, 64, lowest_point=lowest)) == points


def test_a_lowest_point_that_loses_in_both_still_limits():
    found = gear_table([FAST, GOOD, times("beaten", 0.005, 2, 3)], 0.05, 64, lowest_point="beaten")
    assert [gear.point for gear in found] == ["good"]


def test_a_slow_point_that_cannot_keep_the_goal_gives_way_to_one_that_can():
    gears = gear_table([EXACT, GOOD, FAST], 0.012, 64)
    assert [gear.rows_per_second > 0 for gear in gears] == [False, True, True]


def test_unknown_points_and_delays_that_leave_no_time_are_refused():
    with pytest.raises(ServingError, match=r"no operating point 'slow' to be the lowest; known are: exact, fast, good"):
        gear_table([EXACT, GOOD, FAST], 0.05, 64, lowest_point="slow")
    with pytest.raises(ServingError, match="a delay of 40 ms leaves hardly any time within a goal of 50 ms; give"):
        planned_seconds(0.05, 0.04)
    assert planned_seconds(0.05, 0.01) == pytest.approx(0.03)


def test_times_are_those_of_the_run(ran):
    rows = {row["name"]: row for row in json.loads((ran.folder / "metrics.json").read_text())["rows"]}
    shipped = [name for name in rows if name.startswith("backbone")][-1]
    found = read_point_times(ran.folder, OperatingPoints.read(ran.folder / "operating_points.json"))
    assert found[-1].point == "backbone" and found[-1].accuracy_drop == 0.0
    for each in found:
        measured = rows[shipped if each.point == "backbone" else each.point]["seconds_per_sample"]
        assert [str(size) for size in each.rows] == list(measured)
        assert each.seconds[0] == measured[str(each.rows[0])]["median"] * each.rows[0]
        assert list(each.seconds) == sorted(each.seconds)


def test_a_folder_without_times_is_refused(ran, tmp_path):
    points = OperatingPoints.read(ran.folder / "operating_points.json")
    with pytest.raises(ServingError, match=r"needs the times that a run measured, and '.*' has no metrics.json; serve"):
        read_point_times(tmp_path, points)
    metrics = json.loads((ran.folder / "metrics.json").read_text())
    metrics["rows"] = [row for row in metrics["rows"] if row["name"] != "frugal"]
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ServingError, match=r"metrics.json' has no times of the operating point 'frugal'; run the rec"):
        read_point_times(tmp_path, points)
