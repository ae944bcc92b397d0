"""Runs side by side: one table, a page, and what keeps them from being comparable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from ..points.operating_point import OperatingPoints
from .metrics import Metrics, PointFigures
from .page import TEMPLATES
from .svg import COLORS, PALETTE, Mark, figure_svg, mark_id, plot_style
from .tables import Table, percent

_SHAPES = "osD^vP"


@dataclass(frozen=True)
class ComparedRun:
    """A run that is compared: what it is called here, and what it measured."""

    name: str
    points: OperatingPoints
    metrics: Metrics

    def label(self, row: PointFigures) -> str:
        """Return what a row of it is called."""
        return f"{self.name}: {row.name}"


def comparison_notes(runs: Sequence[ComparedRun]) -> list[str]:
    """Return what keeps runs from being comparable, one sentence each; empty if nothing does."""
    return [*filter(None, (_data_note(runs), _cost_note(runs), _time_note(runs)))]


def _data_note(runs: Sequence[ComparedRun]) -> str | None:
    first = runs[0]
    for other in runs[1:]:
        pair = f"'{first.name}' and '{other.name}'"
        sizes = [run.metrics.samples.get("test", 0) for run in (first, other)]
        one, two = first.metrics.test, other.metrics.test
        same_classes = first.metrics.class_names == other.metrics.class_names
        counted = first.metrics.class_samples == other.metrics.class_samples
        if sizes[0] != sizes[1] or not same_classes or not counted or (one and two and one.labels != two.labels):
            shown = f"{sizes[0]} and {sizes[1]} test samples" if sizes[0] != sizes[1] else "other labels or classes"
            return f"{pair} were measured on different data ({shown}): their accuracies cannot be compared"
        if one is None or two is None:
            return f"whether {pair} have the same test samples is unknown: one of them was written by an older version"
        if one.inputs != two.inputs:
            return f"{pair} have the same labels, but other inputs: another preprocessing, or other samples"
    return None


def _cost_note(runs: Sequence[ComparedRun]) -> str | None:
    units = {run.points.cost_unit for run in runs}
    if len(units) > 1:
        return "some runs count multiply-adds and some measure seconds: their costs cannot be compared"
    costs = {run.name: run.metrics.baseline_cost for run in runs}
    if units == {"macs"} and len({f"{cost:.4g}" for cost in costs.values()}) > 1:
        listed = ", ".join(f"'{name}' {cost / 1e6:.4g} M" for name, cost in costs.items())
        return f"costs are over each run's own backbone, and the backbones differ in multiply-adds: {listed}"
    return None


def _time_note(runs: Sequence[ComparedRun]) -> str | None:
    def differs(of: Callable[[Metrics], Any]) -> bool:
        return len({value for run in runs if (value := of(run.metrics)) is not None}) > 1

    machine = (
        differs(lambda m: (m.timing.machine, m.timing.instruction_set))
        or differs(lambda m: m.environment and (m.environment.processor, m.environment.cores))
    )  # fmt: skip
    kinds = {
        "processors": machine,
        "runtimes": differs(lambda m: m.timing.runtime),
        "numbers of threads": differs(lambda m: m.timing.threads),
    }
    different = " and ".join(name for name, is_so in kinds.items() if is_so)
    return f"times were taken with different {different}: compare speed-ups, not times" if different else None


def comparison_table(runs: Sequence[ComparedRun]) -> Table:
    """Return one row for each operating point of each run, and for the backbones.

    Args:
        runs: Their names are unique.
    """
    sizes = list(dict.fromkeys(size for run in runs for size in run.metrics.rows[0].seconds_per_sample))
    header = ["run", "operating point", "accuracy", "drop", "cost"]
    for size in sizes:
        header += [f"µs/sample, batch {size}", "speed-up"]
    rows = []
    for run in runs:
        sure = {point.name: point.guarantee for point in run.points.points if not run.metrics.samples_differ}
        for row in run.metrics.rows:
            line = [run.name, row.name, percent(row.accuracy, row.accuracy_standard_error)]
            line += [percent(row.accuracy_drop, row.accuracy_drop_standard_error), f"{row.cost_ratio:.3f}"]
            for size in sizes:
                time = row.seconds_per_sample.get(size)
                line += [f"{time.median * 1e6:.1f}", f"{row.speed_up[size]:.1f}x"] if time else ["", ""]
            guarantee = sure.get(row.name)
            line.append(f"{guarantee.probability:g}" if guarantee else "")
            rows.append([*line, f"{run.metrics.sizes.model / 1e6:.2f}" if run.metrics.sizes else ""])
    header += ["guarantee", "MB"]
    timed = [place for place, title in enumerate(header) if title == "speed-up"]
    order = [0, 1, 2, 4, *timed, 3, header.index("guarantee"), header.index("MB")]
    rest = (place for place in range(len(header)) if place not in order)
    return Table(header, rows, importance=(*order, *rest), names=2)


def comparison_plot(runs: Sequence[ComparedRun]) -> str:
    """Plot accuracy against cost of all operating points and backbones, a color and a shape for each run."""
    with plot_style("compare"):
        figure = Figure(figsize=(5.6, 3.9), layout="constrained")
        axes, marks = figure.subplots(), dict[int, Mark]()
        for index, run in enumerate(runs):
            color, shape = PALETTE[index % len(PALETTE)], _SHAPES[index % len(_SHAPES)]
            rows = sorted(run.metrics.rows, key=lambda row: row.cost_ratio)
            x, y = [100 * row.cost_ratio for row in rows], [100 * row.accuracy for row in rows]
            axes.plot(x, y, color=color, linewidth=1, alpha=0.6)
            axes.plot([], [], shape, color=color, label=run.name)
            for row, left, up in zip(rows, x, y, strict=True):
                text = f"{run.label(row)}: accuracy {row.accuracy:.1%} at {100 * row.cost_ratio:.3g}% of the cost"
                axes.plot([left], [up], shape, markersize=8, markerfacecolor=color, markeredgecolor=COLORS["paper"],
                          gid=mark_id(len(marks)))  # fmt: skip
                marks[len(marks)] = Mark(text)
        axes.set_xlim(left=0)
        axes.set_xlabel("mean cost per sample, % of the run's own backbone")
        axes.set_ylabel("accuracy, %")
        figure.legend(loc="outside upper left", ncols=2)
        return figure_svg(figure, "Accuracy against cost of all runs", marks)


def comparison_page(runs: Sequence[ComparedRun]) -> str:
    """Return the comparison as HTML: one file that asks for nothing else."""
    return TEMPLATES.get_template("compare.html.jinja").render(
        runs=runs, notes=comparison_notes(runs), figures=comparison_table(runs), plot=comparison_plot(runs)
    )
