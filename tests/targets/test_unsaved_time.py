import pytest

from dynamic_exit.report.metrics import LatencyFigures, PointFigures
from dynamic_exit.targets.unsaved_time import unsaved_time


def row(name, cost_ratio, drop, **seconds):
    """Figures of the backbone alone (no drop) or of a point; microseconds by batch size, as b1, b64."""
    times = {size[1:]: LatencyFigures(median=each, low=each, high=each, rounds=5) for size, each in seconds.items()}
    figures = {"accuracy": 0.9, "seconds_per_sample": times, "speed_up": {}, "exit_rates": {}}
    return PointFigures(name=name, cost_ratio=cost_ratio, accuracy_drop=drop, **figures)


BACKBONES = row("backbone, float", 1.0, None, b1=400, b64=200), row("backbone, int8", 1.0, None, b1=200, b64=100)


def test_multiply_adds_that_save_no_time_are_told():
    points = row("a", 0.7, 0.0, b1=210, b64=96), row("b", 0.5, 0.01, b1=160, b64=99)
    ending = (
        ": operations that are small or wait for memory take time that multiply-adds do not count; `tuning.cost: "
        "latency` counts seconds"
    )
    # 30 % of multiply-adds and at most 4 % of the time of the backbone that ships; 50 % and 20 %
    assert unsaved_time([*BACKBONES, points[0]]) == (
        f"a saves 30% of the multiply-adds but of the time 0% at batch 1, 4% at batch 64{ending}"
    )
    assert unsaved_time([*BACKBONES, *points]) == (
        "b saves 50% of the multiply-adds but of the time 20% at batch 1, 1% at batch 64; the same holds for 1 more"
        + ending
    )


@pytest.mark.parametrize(
    "point",
    [row("a", 0.7, 0.0, b1=169, b64=99), row("a", 0.95, 0.0, b1=210, b64=99), row("a", 0.7, 0.0)],
    ids=["half as much time at one batch size", "few multiply-adds", "no times"],
)
def test_time_that_is_saved_is_not_told(point):
    assert unsaved_time([*BACKBONES, point]) is None
    assert unsaved_time([*BACKBONES]) is None
