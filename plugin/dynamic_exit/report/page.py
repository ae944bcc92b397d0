"""The report of a run as one HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from ..points.operating_point import OperatingPoint, OperatingPoints
from .classes import MAX_ROWS, ClassRow, all_classes_table, class_rows, paying
from .examples import Shown
from .figures import ExampleFigures
from .flow import FlowRow, flow_rows
from .metrics import Metrics, PointFigures
from .plots import confidence_plot, cost_plot, reliability_plot, time_plot
from .summary import KeyFigure, backbone_row, key_figures, verdict
from .tables import (
    Table,
    candidates_table,
    metrics_table,
    percent,
    quantization_table,
    static_pass_notes,
    static_search_summary,
    static_search_table,
    upgrade_table,
)

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("dynamic_exit.report", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
_KINDS = {
    "early": ("Left early", "The first stage answers them, and is right."),
    "late": ("Left late", "They take all of the chain that any sample takes."),
    "lost": ("Lost by leaving early", "Answered wrong before the end; the backbone is right."),
}


@dataclass(frozen=True)
class PointView:
    """What the page shows of one operating point, or of the backbone where there are no points."""

    name: str
    verdict: str
    key_figures: Sequence[KeyFigure]
    flow: Sequence[FlowRow]
    confidence: str | None
    classes: Sequence[ClassRow]
    paying: str


def report_page(
    title: str,
    points: OperatingPoints,
    metrics: Metrics,
    *,
    recipe: str = "",
    shown: Mapping[int, Shown] | None = None,
) -> str:
    """Return the report as HTML: one file that asks for nothing else.

    Args:
        title: Name of the backbone.
        points: The operating points.
        metrics: Content of ``metrics.json``.
        recipe: Text of ``recipe.yaml``; may be empty.
        shown: What samples look like, by row of the test split.
    """
    points = points.model_copy(update={"points": tuple(each for each in points.points if _measured(each, metrics))})
    search = metrics.static_search
    return TEMPLATES.get_template("report.html.jinja").render(
        title=title,
        points=points,
        metrics=metrics,
        recipe=recipe,
        unit="multiply-adds" if points.cost_unit == "macs" else points.cost_unit,
        views=[_point_view(point, points, metrics) for point in points.points],
        backbone=backbone_row(metrics),
        plots=_plots(points, metrics),
        reliability=reliability_plot(metrics.reliability) if metrics.reliability else None,
        figures=metrics_table(metrics),
        stages=stages_table(metrics),
        all_classes=all_classes_table(metrics),
        max_classes=MAX_ROWS,
        kinds=_KINDS,
        examples=_examples(metrics, shown or {}),
        candidates=candidates_table(metrics) if metrics.candidates else None,
        quantizations=quantization_table(metrics) if metrics.numerics else None,
        static_search=static_search_table(search) if search else None,
        static_search_summary=static_search_summary(search) if search else None,
        upgrade=upgrade_table(metrics.upgrade) if metrics.upgrade else None,
        static_passes=static_pass_notes(metrics.static_passes),
        notes=[note for note in metrics.notes if note not in metrics.data_notes],
        verification=verification_table(metrics) if metrics.verification else None,
        facts=facts(points, metrics),
        percent=percent,
    )


def _measured(point: OperatingPoint, metrics: Metrics) -> bool:
    return any(row.name == point.name for row in metrics.rows)


def _point_view(point: OperatingPoint, points: OperatingPoints, metrics: Metrics) -> PointView:
    row = metrics.row(point.name)
    answers = next((each for each in metrics.answers if each.name == point.name), None)
    classes = class_rows(row, metrics)
    return PointView(
        name=point.name,
        verdict=verdict(point, metrics),
        key_figures=key_figures(point, points, metrics),
        flow=flow_rows(row, metrics),
        confidence=confidence_plot(answers) if answers else None,
        classes=classes,
        paying=paying(classes),
    )


def _plots(points: OperatingPoints, metrics: Metrics) -> list[str]:
    sizes = [size for size in metrics.rows[0].seconds_per_sample if all(_timed(row, size) for row in metrics.rows)]
    return [cost_plot(points, metrics), *(time_plot(points, metrics, size) for size in sizes)]


def _timed(row: PointFigures, size: str) -> bool:
    return size in row.seconds_per_sample


def stages_table(metrics: Metrics) -> Table:
    """Return the table of every stage alone: on calibration samples, and on test samples as far as is known."""
    tested = {each.stage: each for each in metrics.reliability}
    rows = []
    for stage in metrics.stages:
        test = tested.get(stage.stage)
        rows.append(
            [
                stage.stage,
                percent(stage.accuracy, stage.accuracy_standard_error),
                percent(test.accuracy, test.accuracy_standard_error) if test else "",
                f"{stage.cost_ratio:.4f}",
                f"{test.calibration_error:.3f}" if test else "",
            ]
        )
    return Table(
        ["stage", "accuracy, calibration samples", "accuracy, test samples", "cost", "calibration error"], rows
    )


def verification_table(metrics: Metrics) -> Table:
    """Return the table of how well the files agree with their models."""
    header = ["", "samples", "operating points", "exits apart", "by rounding", "predictions apart"]
    header.append("largest difference of logits, over their size")
    rows = [
        [
            name,
            *map(str, (each.samples, each.points, each.exits_apart, each.rounding, each.predictions_apart)),
            f"{each.largest_difference:.1e}",
        ]
        for name, each in metrics.verification.items()
    ]
    return Table(header, rows)


def _examples(metrics: Metrics, shown: Mapping[int, Shown]) -> dict[str, list[dict[str, Any]]]:
    """Return the samples by kind, with what they look like; those that cannot be shown are left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for example in metrics.examples:
        if example.sample in shown:
            found.setdefault(example.kind, []).append(_example(example, metrics.class_names, shown[example.sample]))
    return found


def _example(example: ExampleFigures, names: Sequence[str], shown: Shown) -> dict[str, Any]:
    def name(index: int) -> str:
        return names[index] if index < len(names) else f"class {index}"

    curves = [
        " ".join(
            f"{200 * place / max(len(curve) - 1, 1):.1f},{64 - 60 * value:.1f}" for place, value in enumerate(curve)
        )
        for curve in shown.get("curves", [])
    ]
    answer, backbone = name(example.answer), name(example.backbone_answer)
    return {
        **{"picture": shown.get("picture"), "text": shown.get("text"), "curves": curves},
        **{"label": name(example.label), "answer": answer, "backbone": backbone},
        **{"stage": example.stage, "confidence": f"{example.confidence:.0%}", "sample": example.sample},
    }


def facts(points: OperatingPoints, metrics: Metrics) -> list[tuple[str, str]]:
    """Return what the run was made with and of, as names and values."""
    timing, found = metrics.timing, metrics.environment
    splits = ", ".join(f"{count} {name}" for name, count in metrics.samples.items())
    rows = [
        ("samples", splits),
        ("seed", str(metrics.seed)),
        ("target", f"{metrics.target}, backbone in {metrics.backbone_numerics}"),
    ]
    if metrics.sizes:
        sizes = metrics.sizes
        rows.append(("size", f"{sizes.model / 1e6:.2f} MB; the backbone alone in float {sizes.static / 1e6:.2f} MB"))
    thread = f"{timing.threads} thread{'s' * (timing.threads > 1)}"
    rows.append(("times", f"{timing.runtime}, {thread}; {timing.measure}"))
    if found:
        rows.append(("machine", ", ".join(filter(None, [found.processor, f"{found.cores} cores", found.system]))))
    if timing.instruction_set:
        rows.append(("products of int8", timing.instruction_set))
    if found:
        packages = ", ".join(f"{name} {version}" for name, version in found.packages.items())
        rows.append(("versions", f"{packages}, Python {found.python}"))
    rows.append(("the run took", f"{metrics.seconds:.0f} s"))
    return rows
