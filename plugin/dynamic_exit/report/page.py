"""The report as one plain page, and the table that the command line prints."""

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from ..chain.drop_checks import DropCheck, standard_error
from ..chain.operating_point import OperatingPoints
from .metrics import LatencyFigures, Metrics, StaticPassEffect, StaticSearchFigures

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("dynamic_exit.report", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def percent(share: float | None, error: float | None = None, digits: int = 1) -> str:
    """Return a share, such as an accuracy, in percent with its standard error; nothing where it was not measured.

    Args:
        share: 0..1.
        error: Of the share; None where it is not known.
        digits: Behind the point.
    """
    if share is None:
        return ""
    return f"{share:.{digits}%}" if error is None else f"{100 * share:.{digits}f} ± {100 * error:.{digits}f} %"


def table(metrics: Metrics) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the table of operating points.

    Args:
        metrics: Content of ``metrics.json``.

    Returns:
        Column titles, and one list of texts for each row.
    """
    sizes, rows = list(metrics.rows[0].seconds_per_sample), metrics.rows
    stages = [stage for stage in rows[0].exit_rates if any(row.exit_rates[stage] for row in rows)]
    header = ["", "accuracy", "cost"]
    for size in sizes:
        header += [f"µs/sample, batch {size}", "speed-up"]
    cells = []
    for row in rows:
        line = [row.name, percent(row.accuracy, row.accuracy_standard_error), f"{row.cost_ratio:.3f}"]
        for size in sizes:
            line += [_microseconds(row.seconds_per_sample[size]), f"{row.speed_up[size]:.1f}x"]
        cells.append(line + [f"{row.exit_rates[stage]:.0%}" for stage in stages])
    return header + stages, cells


def points_table(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the table of a written folder's operating points.

    Args:
        found: What `analysis.inspect.inspect_folder` returned.
    """
    rows = []
    for point in found["operating_points"]["points"]:
        thresholds = (f"{stage['stage']} > {stage['threshold']:.4f}" for stage in point["stages"])
        rows.append(
            [
                point["name"],
                percent(point["accuracy"], standard_error(point["accuracy"], point["samples"]), 2),
                percent(point["accuracy_drop"], found["drop_errors"].get(point["name"]), 2),
                f"{point['cost_ratio']:.3f}",
                ", ".join(thresholds) or "none",
            ]
        )
    return ["operating point", "accuracy", "drop", "cost", "thresholds"], rows


def judged_table(points: OperatingPoints, judged: Sequence[DropCheck]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the table of operating points that were tuned.

    Args:
        points: The points.
        judged: What held-out samples say of each.
    """
    rows = [
        [
            point.name,
            percent(point.accuracy, standard_error(point.accuracy, point.samples), 2),
            percent(each.accuracy_drop, each.drop_error, 2),
            f"{point.cost_ratio:.3f}",
            f"{point.guarantee.probability:.0%}" if point.guarantee else "none",
        ]
        for point, each in zip(points.points, judged, strict=True)
    ]
    return ["operating point", "accuracy", "drop", "cost", "guarantee"], rows


def candidates_table(metrics: Metrics) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the table of saver candidates; what was not measured is empty.

    Args:
        metrics: Content of ``metrics.json``.

    Returns:
        Column titles, and one list of texts for each row.
    """
    header = ["candidate", "accuracy", "cost", "answers", "saves alone", "saves in the chain", "chosen", "why"]
    rows = []
    for row in metrics.candidates:
        ratio = None if row.cost is None else row.cost / metrics.baseline_cost
        cells = [row.stage, percent(row.accuracy, row.accuracy_standard_error), _text(ratio, ".4f")]
        cells += [_text(share, ".1%") for share in (row.answered, row.saving_alone, row.saving_in_chain)]
        rows.append([*cells, "yes" if row.chosen else "no", row.why])
    return header, rows


def benchmark_tables(found: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, header and cells of one table for each batch size.

    Args:
        found: What `analysis.benchmark.benchmark_folder` returned.
    """
    tables = []
    for size in found["rows"][0]["seconds_per_sample"]:
        cells = []
        for row in found["rows"]:
            time, ideal = row["seconds_per_sample"][size], row["ideal_seconds_per_sample"].get(size)
            over = None if ideal is None else time["median"] / ideal
            cells.append(
                [
                    f"{row['name']}, {row['numerics']}",
                    percent(row["accuracy"], row["accuracy_standard_error"]),
                    _microseconds(LatencyFigures(**time)),
                    f"{row['speed_up'][size]:.2f}x",
                    _text(None if ideal is None else ideal * 1e6, ".1f"),
                    _text(over, ".2f"),
                ]
            )
        header = ["", "accuracy", "µs/sample", "speed-up", "ideal", "measured / ideal"]
        tables.append((f"batch {size}", header, cells))
    return tables


def _microseconds(time: LatencyFigures) -> str:
    """Median and half the distance of the quartiles, in microseconds; one round alone shows no spread."""
    median = f"{time.median * 1e6:.1f}"
    return median if time.rounds < 2 else f"{median} ± {(time.high - time.low) / 2 * 1e6:.1f}"


def numerics_table(metrics: Metrics) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the table of quantizations that were tried.

    Args:
        metrics: Content of ``metrics.json``.
    """
    rows = [
        [
            row.algorithm,
            percent(row.accuracy, row.accuracy_standard_error, 2),
            _text(row.seconds_per_sample and row.seconds_per_sample * 1e6, ".1f"),
            _text(row.size and row.size / 1e6, ".2f"),
            row.why,
        ]
        for row in metrics.numerics
    ]
    return ["quantization", "accuracy", "µs/sample, batch 64", "MB", "why"], rows


def stacks_table(search: StaticSearchFigures) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the table of static choices; what was not measured is empty.

    Args:
        search: ``static_search`` of ``metrics.json``.
    """
    rows = [
        [
            row.pruning,
            row.quantization,
            percent(row.backbone_accuracy, row.backbone_accuracy_standard_error, 2),
            _text(row.backbone_cost_ratio, ".3f"),
            percent(row.accuracy, row.accuracy_standard_error, 2),
            _text(row.cost_ratio, ".4f"),
            _text(row.seconds, ".0f"),
            row.why,
        ]
        for row in search.variants
    ]
    header = ["pruning", "quantization", "backbone right", "its cost", "stack right", "its cost", "s", "why"]
    return header, rows


def stack_summary(search: StaticSearchFigures) -> str:
    """Return what the best stack does against the backbone as it was given, on test samples, in one sentence.

    Args:
        search: ``static_search`` of ``metrics.json``.
    """
    points = "; ".join(
        f"{row.name} loses {percent(row.accuracy_drop, row.accuracy_drop_standard_error, 2)} "
        f"at {row.cost_ratio:.4f} of its cost"
        for row in search.points
    )
    correct = percent(search.given.accuracy, search.given.accuracy_standard_error, 2)
    return f"Against the backbone as it was given ({correct} of the test samples right): {points}."


def static_pass_notes(effect: StaticPassEffect | None) -> list[str]:
    """Return what static passes did to the backbone in one sentence, or none if none has run.

    Args:
        effect: ``static_passes`` of ``metrics.json``.
    """
    if effect is None:
        return []
    given, made = effect.given, effect.made
    remain = f"{made.multiply_adds / given.multiply_adds:.1%} of the multiply-adds remain"
    correct = ""
    if given.accuracy is not None:
        shown = percent(made.accuracy, made.accuracy_standard_error, 2)
        before = percent(given.accuracy, given.accuracy_standard_error, 2)
        correct = f", {shown} of the test samples are right, {before} before (both in float)"
    return [f"{' and '.join(effect.passes)}: {remain}{correct}; other figures are against the backbone after that."]


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def report_page(title: str, points: OperatingPoints, metrics: Metrics) -> str:
    """Return the report as HTML.

    Args:
        title: Name of the backbone.
        points: The operating points.
        metrics: Content of ``metrics.json``.
    """
    header, rows = table(metrics)
    return _TEMPLATES.get_template("report.html.jinja").render(
        title=title,
        points=points,
        metrics=metrics,
        percent=percent,
        header=header,
        rows=rows,
        candidates=candidates_table(metrics),
        numerics=numerics_table(metrics),
        stacks=stacks_table(metrics.static_search) if metrics.static_search else None,
        stack_summary=stack_summary(metrics.static_search) if metrics.static_search else None,
    )
