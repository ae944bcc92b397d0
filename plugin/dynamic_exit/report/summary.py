"""The verdict on an operating point: one sentence, and the figures at the top of the report."""

from dataclasses import dataclass

from ..points.operating_point import OperatingPoint, OperatingPoints
from .metrics import Metrics, PointFigures

#: A drop may be larger than measured by so many standard errors.
_ERRORS = 2.0


@dataclass(frozen=True)
class KeyFigure:
    """A figure at the top: its value, what it is, and a line below."""

    value: str
    what: str
    detail: str


def backbone_row(metrics: Metrics) -> PointFigures:
    """Return the row of the backbone as it ships, which accuracy drops are relative to."""
    alone = [row for row in metrics.rows if row.accuracy_drop is None]
    return alone[-1] if alone else metrics.rows[0]


def verdict(point: OperatingPoint, metrics: Metrics) -> str:
    """Return what an operating point saves, what it costs, and what it may lose, in one sentence."""
    row, backbone = metrics.row(point.name), backbone_row(metrics)
    last = list(row.exit_rates)[-1]
    for gained in metrics.upgrade.points if metrics.upgrade else ():
        if gained.name == point.name:
            return f"{gained.verdict.removeprefix(f'{point.name}: ').capitalize()}."
    if not point.stages:
        return (
            f"Nothing saves anything at {point.name}: every input runs through the whole backbone, which is right on "
            f"{row.accuracy:.1%} of the test samples."
        )
    speeds = [f"{speed:.1f}× its speed at batch {size}" for size, speed in list(row.speed_up.items())[-1:]]
    saved = " and ".join([f"{_share(row.cost_ratio)} of the backbone's cost", *speeds])
    return (
        f"{_early(row.exit_rates[last])} leave early, at {saved}; {row.accuracy:.1%} of answers are right"
        f"{_difference(row, backbone)}{_risk(row)}; {may_lose(point, metrics)}."
    )


def may_lose(point: OperatingPoint, metrics: Metrics) -> str:
    """Return what a point may lose on other samples, as a clause."""
    row, guarantee = metrics.row(point.name), point.guarantee
    if guarantee and not metrics.samples_differ:
        what = "risk rises by" if guarantee.max_accuracy_drop is None else "it loses"
        limited = guarantee.max_class_drop
        classes = "" if limited is None else f", and no class more than {_points(limited)}"
        return f"with probability {guarantee.probability:g} {what} at most {_points(guarantee.allowed_drop)}{classes}"
    if row.accuracy_drop is None:
        return "nothing is guaranteed"
    most = row.accuracy_drop + _ERRORS * (row.accuracy_drop_standard_error or 0.0)
    if most <= 0:
        return "nothing is guaranteed, and two standard errors leave no loss"
    return f"nothing is guaranteed: within two standard errors it may lose {_points(most)}"


def _difference(row: PointFigures, backbone: PointFigures) -> str:
    if row.accuracy_drop is None:
        return ""
    if row.accuracy_drop == 0:
        return f", as many as the backbone's ({backbone.accuracy:.1%})"
    error = row.accuracy_drop_standard_error
    spread = "" if error is None else f" ± {100 * error:.1f}"
    side = "below" if row.accuracy_drop > 0 else "above"
    return f", {100 * abs(row.accuracy_drop):.1f}{spread} points {side} the backbone's {backbone.accuracy:.1%}"


def _risk(row: PointFigures) -> str:
    if row.goal is None or row.goal.risk == "accuracy":
        return ""
    change, error = 100 * row.goal.risk_increase, 100 * row.goal.risk_increase_standard_error
    return f"; the risk {row.goal.risk} changes by {change:+.1f} ± {error:.1f} points"


def _early(late: float) -> str:
    """Return how many inputs leave early, given the share of the others."""
    return "All inputs" if late == 0 else f"{_share(1 - late)} of inputs"


def _share(share: float) -> str:
    return f"{share:.2%}" if 0 < share < 0.01 else f"{share:.1%}" if share < 0.1 or share > 0.99 else f"{share:.0%}"


def _points(share: float) -> str:
    shown = f"{100 * share:.2g}"
    return f"{shown} point{'' if shown == '1' else 's'}"


def key_figures(point: OperatingPoint, points: OperatingPoints, metrics: Metrics) -> list[KeyFigure]:
    """Return the three figures at the top for an operating point: what it costs, how fast and how good it is."""
    row, backbone = metrics.row(point.name), backbone_row(metrics)
    unit = "fewer multiply-adds" if points.cost_unit == "macs" else "less time, from its stages"
    fewer = 1 / row.cost_ratio if row.cost_ratio else float("inf")
    figures = [KeyFigure(f"{fewer:.3g}×", unit, f"{_share(row.cost_ratio)} of the backbone's, on average")]
    if row.speed_up:
        sizes = list(row.speed_up)
        others = ", ".join(f"{row.speed_up[size]:.1f}× at batch {size}" for size in sizes[:-1])
        what = f"the speed of the float backbone, batch {sizes[-1]}"
        figures.append(KeyFigure(f"{row.speed_up[sizes[-1]]:.1f}×", what, others))
    error = "" if row.accuracy_standard_error is None else f"± {100 * row.accuracy_standard_error:.1f}; "
    figures.append(KeyFigure(f"{row.accuracy:.1%}", "accuracy", f"{error}the backbone has {backbone.accuracy:.1%}"))
    return figures
