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
    assert left.seconds() == pytest.approx(30 * 30 / 20)


def test_what_is_found_in_the_cache_makes_the_rest_shorter(left, clock):
    left.expect({"export": 90.0, "savers": 10.0})
    left.begin("export")
    left.end()
    assert left.seconds() == pytest.approx(10 * 25 / 115)


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


TRAININGS = {"": 5.0, "a": 20.0, "b": 40.0, "c": 60.0}


@pytest.fixture
def training(left, clock):
    left.expect({"savers": sum(TRAININGS.values()), "figures": 10.0}, {"savers": TRAININGS})
    left.begin("savers")
    return left


def test_a_part_that_tells_how_far_it_is_says_when_it_ends_and_those_behind_it_wait(training, clock):
    clock.now += 5
    training.advance_part("a", 0.1)
    clock.now += 10
    training.advance_part("a", 0.6)
    assert training.seconds() == pytest.approx(0.4 * 20 + 40 + 60 + 10)
    clock.now += 3
    assert training.seconds() == pytest.approx(0.4 * 20 - 3 + 40 + 60 + 10)


def test_slow_parts_make_those_behind_them_longer_and_parts_that_are_left_out_are_not_waited_for(training, clock):
    training.advance_part("a", 0.0)
    clock.now += 60
    training.advance_part("a", 1.0)
    training.advance_part("c", 0.0)
    slower = (0.25 * 125 + 60) / (0.25 * 125 + 20)
    slower_in_all = (0.25 * 135 + 60) / (0.25 * 135 + 20)
    assert training.seconds() == pytest.approx(60 * slower + 10 * slower_in_all)
    clock.now += 30
    training.advance_part("c", 1.0)
    training.end()
    assert training.seconds() == pytest.approx(10 * (0.25 * 135 + 90) / (0.25 * 135 + 80))


def test_parts_of_which_nothing_was_expected_say_nothing(training, clock):
    clock.now += 5
    before = training.seconds()
    training.advance_part("somebody's", 0.9)
    assert training.seconds() == before


def test_a_step_that_takes_longer_makes_the_others_longer_before_it_ends(left, clock):
    left.expect({"export": 10.0, "figures": 30.0})
    left.begin("export")
    clock.now += 50
    assert left.seconds() == pytest.approx(5 + 30 * (10 + 50) / (10 + 10))


# seconds of steps and of trainings (until its first epoch is told, of an epoch, epochs, and epochs at most) of runs on
# two shared cores, and what was estimated before them
PICTURES = (
    {"backbone": 30.3, "savers": 146.5, "exits": 6, "records": 1.4, "points": 8, "file": 15, "figures": 20},
    {"": 31.6, "convnet_0.06": 114.9},
)
RUNS = {
    "the quick start": (
        {"backbone": 35, "savers": 167, "exits": 10, "records": 1, "points": 13, "file": 31, "figures": 23},
        {"convnet_0.02": (25, 0.5, 83, 120), "convnet_0.05": (73, 0.78, 115, 120)},
        {"backbone": 12.8, "savers": 276.4, "exits": 6, "records": 2.1, "points": 8, "file": 43.6, "figures": 20},
        {"": 70, "convnet_0.02": 86.9, "convnet_0.05": 119.5},
    ),
    "2,000 pictures": (
        {"backbone": 32, "savers": 211, "exits": 8.5, "records": 1, "points": 13.5, "file": 39, "figures": 36},
        {"convnet_0.06": (42.5, 2.2, 75, 75)},
        *PICTURES,
    ),
    "2,000 pictures on a busy machine": (
        {"backbone": 78, "savers": 300, "exits": 14, "records": 2, "points": 11, "file": 11, "figures": 23},
        {"convnet_0.06": (64, 3.09, 75, 75)},
        *PICTURES,
    ),
}


@pytest.mark.parametrize("steps, trainings, expected, parts", RUNS.values(), ids=RUNS)
def test_runs_as_they_were_are_foretold(clock, steps, trainings, expected, parts):
    left, begun = TimeLeft([*steps], clock), 0.0
    events = []
    for step, seconds in steps.items():
        events.append((begun, left.begin, (step,)))
        for name, (first, epoch, epochs, most) in trainings.items() if step == "savers" else ():
            events += [(begun + first + i * epoch, left.advance_part, (name, (i + 1) / most)) for i in range(epochs)]
        begun += seconds
        events.append((begun - 1e-6, left.end, ()))
    left.expect(expected, {"savers": parts})
    off = {}
    events += [
        (begun * share, lambda share=share: off.update({share: left.seconds()}), ()) for share in (0.25, 0.5, 0.75)
    ]
    for when, call, arguments in sorted(events, key=lambda event: event[0]):
        clock.now = 100.0 + when
        call(*arguments)
    for share, most in ((0.25, 0.2), (0.5, 0.15), (0.75, 0.12)):
        assert off[share] == pytest.approx(begun * (1 - share), abs=most * begun)
