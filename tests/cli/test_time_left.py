import pytest

from dynamic_exit.cli.time_left import TimeLeft

STEPS = ["load", "export", "savers", "figures"]


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def left(clock):
    return TimeLeft(STEPS, clock)


def test_nothing_is_said_before_anything_was_estimated(left, clock):
    left.begin("load")
    clock.now += 5
    assert left.seconds() is None


def test_the_estimate_goes_down_with_the_clock(left, clock):
    left.expect({"export": 10.0, "savers": 20.0, "figures": 10.0})
    assert left.seconds() == pytest.approx(40)
    left.begin("export")
    clock.now += 4
    assert left.seconds() == pytest.approx(36)


def test_a_step_that_took_twice_as_long_makes_the_others_longer_but_not_at_once_twice_as_long(left, clock):
    left.expect({"export": 10.0, "savers": 20.0, "figures": 10.0})
    left.begin("export")
    clock.now += 20
    left.end()
    assert 30 < left.seconds() < 60
    assert left.seconds() == pytest.approx(30 * 24 / 14)


def test_what_is_found_in_the_cache_makes_the_rest_shorter(left, clock):
    left.expect({"export": 90.0, "savers": 10.0})
    left.begin("export")
    left.end()
    assert left.seconds() == pytest.approx(10 * 10 / 100)


def test_a_step_that_tells_how_far_it_is_is_believed(left, clock):
    left.expect({"savers": 20.0})
    left.begin("savers")
    clock.now += 30
    left.advance(0.25)
    assert left.seconds() == pytest.approx(90)


def test_a_step_beyond_its_estimate_never_has_less_than_nothing_left(left, clock):
    left.expect({"savers": 20.0})
    left.begin("savers")
    clock.now += 200
    assert left.seconds() == pytest.approx(20)


def test_steps_that_were_left_out_are_not_waited_for(left):
    left.expect({"export": 10.0, "savers": 20.0, "figures": 10.0})
    left.begin("figures")
    assert (left.seconds(), left.pending) == (pytest.approx(10), [])
