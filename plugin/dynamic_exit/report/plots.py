"""The plots of the report: accuracy against cost and time, reliability, and confidence with thresholds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ..points.operating_point import OperatingPoints
from .figures import PointAnswers, ReliabilityFigures
from .metrics import Metrics, PointFigures
from .svg import COLORS, PALETTE, Mark, figure_svg, mark_id, plot_style

# in inches of 72 pixels
_SIZE = (5.6, 3.9)
# stages in one plot at most, as many as there are colors
_MAX_LINES = len(PALETTE)
# an axis on which the largest value is so many times the smallest is logarithmic
_LOG_RANGE = 8.0
# samples in a bin of confidence, at least: of fewer, the share of right ones says nothing
_MIN_IN_BIN = 5
# numbers of marks this close, in relation and in points of accuracy, stand together
_NEAR = 0.05


@dataclass(frozen=True)
class _Spot:
    x: float
    accuracy: float
    text: str
    kind: str
    point: int | None = None
    guaranteed: bool = False


def cost_plot(points: OperatingPoints, metrics: Metrics) -> str:
    """Plot accuracy against cost: the front, operating points, the backbone and what other models there are."""
    spots = _row_spots(points, metrics, lambda row: 100 * row.cost_ratio, "{:.3g}% of the backbone's cost")
    alone = {stage.stage: stage for stage in metrics.stages}
    for each in metrics.reliability:
        stage = alone.get(each.stage)
        if stage and each.stage != "final" and stage.backbone_before == 0:
            cost = 100 * stage.cost_ratio
            text = f"{each.stage} alone: accuracy {each.accuracy:.1%} at {cost:.3g}% of the backbone's cost"
            spots.append(_Spot(cost, each.accuracy, text, "single model"))
    unit = "multiply-adds" if points.cost_unit == "macs" else "time"
    label = f"mean cost per sample, % of the backbone's {unit}"
    front = [(100 * each.cost_ratio, 100 * each.accuracy) for each in metrics.front]
    return _front_plot("cost", f"Accuracy against cost in {unit}", label, spots, points, metrics, front)


def time_plot(points: OperatingPoints, metrics: Metrics, batch: str) -> str:
    """Plot accuracy against measured time at a batch size, as ``metrics.json`` names it."""

    def seconds(row: PointFigures) -> float:
        return row.seconds_per_sample[batch].median * 1e6

    spots = _row_spots(points, metrics, seconds, "{:.1f} µs per sample")
    for each in metrics.reliability:
        if each.stage in metrics.saver_seconds:
            median = metrics.saver_seconds[each.stage][batch].median * 1e6
            text = f"{each.stage} alone: accuracy {each.accuracy:.1%} at {median:.1f} µs per sample"
            spots.append(_Spot(median, each.accuracy, text, "single model"))
    label = f"µs per sample, batch {batch}"
    return _front_plot(f"time{batch}", f"Accuracy against time at batch {batch}", label, spots, points, metrics)


def _row_spots(
    points: OperatingPoints, metrics: Metrics, measure: Callable[[PointFigures], float], described: str
) -> list[_Spot]:
    order = {name: index for index, name in enumerate(points.names)}
    guaranteed = {point.name for point in points.points if point.guarantee and not metrics.samples_differ}
    spots = []
    for row in metrics.rows:
        sure = ", guaranteed" * (row.name in guaranteed)
        text = f"{row.name}: accuracy {row.accuracy:.1%} at {described.format(measure(row))}{sure}"
        kind = "operating point" if row.name in order else "backbone"
        spots.append(_Spot(measure(row), row.accuracy, text, kind, order.get(row.name), row.name in guaranteed))
    return spots


def _front_plot(
    name: str,
    title: str,
    label: str,
    spots: Sequence[_Spot],
    points: OperatingPoints,
    metrics: Metrics,
    front: Sequence[tuple[float, float]] = (),
) -> str:
    with plot_style(name):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes, baseline = figure.subplots(), 100 * points.baseline.accuracy
        low, high = _accuracy_range(spots, baseline)
        _draw_guarantees(axes, points, metrics, baseline)
        axes.axhline(baseline, color=COLORS["muted"], linewidth=0.9, linestyle=":")
        shown = [(x, y) for x, y in front if y >= low]
        if len(shown) > 1:
            axes.plot(*zip(*shown, strict=True), color=COLORS["muted"], linewidth=1.2, label="front", zorder=2)
        visible = [each for each in spots if low <= 100 * each.accuracy <= high]
        marks = _draw_spots(axes, visible)
        axes.set_ylim(low, high)
        _scale(axes, [each.x for each in visible])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value <= 100 else ""))
        axes.set_xlabel(label)
        axes.set_ylabel("accuracy, %")
        figure.legend(loc="outside upper left", ncols=3)
        return figure_svg(figure, title, marks)


def _accuracy_range(spots: Sequence[_Spot], baseline: float) -> tuple[float, float]:
    """Return what to show: cheap models that lose most would compress the rest."""
    important = [100 * each.accuracy for each in spots if each.kind != "single model"] + [baseline]
    room = max(max(important) - min(important), 0.5)
    return max(min(important) - 0.8 * room, 0.0), max(important) + 0.5 * room


def _draw_guarantees(axes: Axes, points: OperatingPoints, metrics: Metrics, baseline: float) -> None:
    promised = {
        point.guarantee.max_accuracy_drop: point.guarantee.probability
        for point in points.points
        if point.guarantee and point.guarantee.max_accuracy_drop is not None and not metrics.samples_differ
    }
    for index, (drop, probability) in enumerate(sorted(promised.items(), reverse=True)):
        label = f"guaranteed with probability {probability:g}" if index == 0 else None
        axes.axhspan(baseline - 100 * drop, baseline, color=PALETTE[2], alpha=0.12, linewidth=0, label=label, zorder=0)


def _draw_spots(axes: Axes, spots: Sequence[_Spot]) -> dict[int, Mark]:
    shapes = {
        "single model": ("^", COLORS["paper"]),
        "backbone": ("s", COLORS["ink"]),
        "operating point": ("o", PALETTE[0]),
    }
    marks, told, numbers = dict[int, Mark](), set[str](), dict[tuple[float, float], list[str]]()
    for index, spot in enumerate(spots):
        shape, fill = shapes[spot.kind]
        edge = COLORS["ink"] if spot.kind == "single model" else fill
        axes.plot(
            [spot.x], [100 * spot.accuracy], "D" if spot.guaranteed else shape, gid=mark_id(index), markersize=8,
            markerfacecolor=fill, markeredgecolor=edge, linestyle="none", zorder=4,
            label=None if spot.kind in told else spot.kind,
        )  # fmt: skip
        told.add(spot.kind)
        marks[index] = Mark(spot.text, spot.point)
        if spot.point is not None:
            place = (spot.x, 100 * spot.accuracy)
            numbers.setdefault(next((each for each in numbers if _near(each, place)), place), []).append(
                str(spot.point + 1)
            )
    for place, labels in numbers.items():
        axes.annotate(
            ", ".join(labels), place, (0, 8), textcoords="offset points", ha="center", color=PALETTE[0], weight="bold"
        )
    return marks


def _near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two marks lie so close that their numbers would overlap."""
    return abs(one[0] - other[0]) <= _NEAR * max(one[0], other[0]) and abs(one[1] - other[1]) <= _NEAR


def _scale(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if low > 0 and high / low > _LOG_RANGE:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.6, high * 1.6)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, high * 1.08 or 1.0)


def reliability_plot(stages: Sequence[ReliabilityFigures]) -> str:
    """Plot how often stages are right by how sure they are; of many stages the last ones."""
    with plot_style("reliability"):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes, marks = figure.subplots(), dict[int, Mark]()
        axes.plot([0, 100], [0, 100], color=COLORS["muted"], linewidth=0.9, linestyle=":")
        for stage, color, shape in zip(stages[-_MAX_LINES:], PALETTE, "osD^vP", strict=False):
            filled = [
                (100 * sure, 100 * right, count)
                for sure, right, count in zip(stage.confidence, stage.right, stage.counts, strict=True)
                if sure is not None and right is not None and count >= _MIN_IN_BIN
            ]
            x, y = [each[0] for each in filled], [each[1] for each in filled]
            axes.plot(
                x, y, color=color, linewidth=1.2, marker=shape, markersize=5, label=stage.stage, gid=mark_id(len(marks))
            )
            listed = "; ".join(f"{sure:.0f} % sure, {right:.0f} % right of {count}" for sure, right, count in filled)
            marks[len(marks)] = Mark(f"{stage.stage}: {listed}")
        axes.set(xlim=(0, 101), ylim=(0, 103), xlabel="confidence, %", ylabel="right, %")
        figure.legend(loc="outside upper left", ncols=3)
        return figure_svg(figure, "How often stages are right by how sure they are", marks)


def confidence_plot(answers: PointAnswers) -> str | None:
    """Plot the confidence of right and wrong answers at each stage that samples reach before the last.

    Returns:
        The picture; None if no sample reaches a stage that has a threshold.
    """
    stages = [each for each in answers.stages if each.threshold is not None and each.reached]
    if not stages:
        return None
    with plot_style(f"confidence {answers.name}"):
        figure = Figure(figsize=(_SIZE[0], 0.6 + 1.5 * len(stages)), layout="constrained")
        for axes, stage in zip(figure.subplots(len(stages), 1, squeeze=False, sharex=True)[:, 0], stages, strict=True):
            edges = [index / len(stage.right) for index in range(len(stage.right) + 1)]
            for counts, sign, color, name in (
                (stage.right, 1, PALETTE[0], "right"),
                (stage.wrong, -1, PALETTE[1], "wrong"),
            ):
                heights = [sign * count / max(sum(counts), 1) for count in counts]
                axes.stairs(heights, edges, fill=True, color=color, label=name if stage is stages[0] else None)
            assert stage.threshold is not None, "chosen above"
            axes.axhline(0, color=COLORS["muted"], linewidth=0.8)
            axes.axvline(min(max(stage.threshold, 0), 1), color=COLORS["ink"], linestyle="--", linewidth=1.2)
            title = (
                f"{stage.stage}: {sum(stage.right)} right, {sum(stage.wrong)} wrong, leave above {stage.threshold:.3g}"
            )
            axes.set_title(title, loc="left")
            axes.set(xlim=(-0.01, 1.01), yticks=[])
            axes.grid(False)
        axes.set_xlabel("confidence")
        figure.legend(loc="outside upper left", ncols=2)
        return figure_svg(figure, f"Confidence of right and wrong answers at {answers.name}")
