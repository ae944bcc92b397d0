"""The report as one plain page, and the table that the command line prints."""

from collections.abc import Sequence
from typing import Any

import jinja2

from ..chain.drop_checks import DropCheck, standard_error
from ..chain.operating_point import OperatingPoints

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


def _accuracy(row: dict[str, Any], of: str = "accuracy", digits: int = 1) -> str:
    """An accuracy in percent with its standard error, which what older versions wrote lacks."""
    return percent(row[of], row.get(f"{of}_standard_error"), digits)


def table(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the table of operating points.

    Args:
        metrics: Content of ``metrics.json``.

    Returns:
        Column titles, and one list of texts for each row.
    """
    sizes = list(metrics["rows"][0]["seconds_per_sample"])
    stages = [
        stage for stage in metrics["rows"][0]["exit_rates"] if any(row["exit_rates"][stage] for row in metrics["rows"])
    ]
    header = ["", "accuracy", "cost"]
    for size in sizes:
        header += [f"µs/sample, batch {size}", "speed-up"]
    rows = []
    for row in metrics["rows"]:
        cells = [row["name"], _accuracy(row), f"{row['cost_ratio']:.3f}"]
        for size in sizes:
            cells += [_spread(row["seconds_per_sample"][size]), f"{row['speed_up'][size]:.1f}x"]
        rows.append(cells + [f"{row['exit_rates'][stage]:.0%}" for stage in stages])
    return header + stages, rows


def points_table(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the table of a written folder's operating points.

    Args:
        found: What `recipe.evaluate.describe_folder` returned.
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


def candidates_table(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the table of saver candidates; what was not measured is empty.

    Args:
        metrics: Content of ``metrics.json``.

    Returns:
        Column titles, and one list of texts for each row.
    """
    header = ["candidate", "accuracy", "cost", "answers", "saves alone", "saves in the chain", "chosen", "why"]
    rows = []
    for row in metrics["candidates"]:
        ratio = None if row["cost"] is None else row["cost"] / metrics["baseline_cost"]
        shares = [row[key] for key in ("answered", "saving_alone", "saving_in_chain")]
        cells = [row["stage"], _accuracy(row), _text(ratio, ".4f")]
        cells += [_text(share, ".1%") for share in shares]
        rows.append([*cells, "yes" if row["chosen"] else "no", row["why"]])
    return header, rows


def benchmark_tables(found: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, header and cells of one table for each batch size.

    Args:
        found: What `recipe.benchmark.benchmark_folder` returned.
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
                    _accuracy(row),
                    _spread(time),
                    f"{row['speed_up'][size]:.2f}x",
                    _text(None if ideal is None else ideal * 1e6, ".1f"),
                    _text(over, ".2f"),
                ]
            )
        header = ["", "accuracy", "µs/sample", "speed-up", "ideal", "measured / ideal"]
        tables.append((f"batch {size}", header, cells))
    return tables


def _spread(time: dict[str, float]) -> str:
    """Median and half the distance of the quartiles, in microseconds."""
    return f"{time['median'] * 1e6:.1f} ± {(time['high'] - time['low']) / 2 * 1e6:.1f}"


def numerics_table(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the table of quantizations that were tried.

    Args:
        metrics: Content of ``metrics.json``.
    """
    rows = [
        [
            row["algorithm"],
            _accuracy(row, digits=2),
            _text(row["seconds_per_sample"] and row["seconds_per_sample"] * 1e6, ".1f"),
            _text(row["bytes"] and row["bytes"] / 1e6, ".2f"),
            row["why"],
        ]
        for row in metrics["numerics"]
    ]
    return ["quantization", "accuracy", "µs/sample, batch 64", "MB", "why"], rows


def stacks_table(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the table of static choices; what was not measured is empty.

    Args:
        metrics: Content of ``metrics.json``.
    """
    rows = [
        [
            row["pruning"],
            row["quantization"],
            _accuracy(row, "backbone_accuracy", 2),
            _text(row["backbone_cost_ratio"], ".3f"),
            _accuracy(row, digits=2),
            _text(row["cost_ratio"], ".4f"),
            _text(row["seconds"], ".0f"),
            row["why"],
        ]
        for row in metrics["static_search"]["variants"]
    ]
    header = ["pruning", "quantization", "backbone right", "its cost", "stack right", "its cost", "s", "why"]
    return header, rows


def stack_summary(metrics: dict[str, Any]) -> str:
    """Return what the best stack does against the backbone as it was given, on test samples, in one sentence.

    Args:
        metrics: Content of ``metrics.json``.
    """
    found = metrics["static_search"]
    points = "; ".join(
        f"{row['name']} loses {_accuracy(row, 'accuracy_drop', 2)} at {row['cost_ratio']:.4f} of its cost"
        for row in found["points"]
    )
    right = _accuracy(found["given"], digits=2)
    return f"Against the backbone as it was given ({right} of the test samples right): {points}."


def static_pass_notes(found: dict[str, Any] | None) -> list[str]:
    """Return what static passes did to the backbone, in one sentence, or none where none has run.

    Args:
        found: ``static_passes`` of ``metrics.json``.
    """
    if found is None:
        return []
    given, made = found["given"], found["made"]
    remain = f"{made['multiply_adds'] / given['multiply_adds']:.1%} of the multiply-adds remain"
    right = ""
    if given["accuracy"] is not None:
        shown, before = _accuracy(made, digits=2), _accuracy(given, digits=2)
        right = f", {shown} of the test samples are right, {before} before (both in float)"
    return [f"{' and '.join(found['passes'])}: {remain}{right}; other figures are against the backbone after that."]


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def report_page(title: str, points: OperatingPoints, metrics: dict[str, Any]) -> str:
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
        stacks=stacks_table(metrics) if metrics.get("static_search") else None,
        stack_summary=stack_summary(metrics) if metrics.get("static_search") else None,
    )
