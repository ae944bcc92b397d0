"""The report as one plain page, and the table that the command line prints."""

from typing import Any

import jinja2

from ..tuning.operating_point import OperatingPoints

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("dynamic_exit.report", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


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
        cells = [row["name"], f"{row['accuracy']:.1%}", f"{row['cost_ratio']:.3f}"]
        for size in sizes:
            time = row["seconds_per_sample"][size]
            spread = (time["high"] - time["low"]) / 2
            cells += [f"{time['median'] * 1e6:.1f} ± {spread * 1e6:.1f}", f"{row['speed_up'][size]:.1f}x"]
        rows.append(cells + [f"{row['exit_rates'][stage]:.0%}" for stage in stages])
    return header + stages, rows


def report_page(title: str, points: OperatingPoints, metrics: dict[str, Any]) -> str:
    """Return the report as HTML.

    Args:
        title: Name of the backbone.
        points: The operating points.
        metrics: Content of ``metrics.json``.
    """
    header, rows = table(metrics)
    return _TEMPLATES.get_template("report.html.jinja").render(
        title=title, points=points, metrics=metrics, header=header, rows=rows
    )
