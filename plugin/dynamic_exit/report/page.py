"""The report of a run as one HTML page."""

import jinja2

from ..points.operating_point import OperatingPoints
from .metrics import Metrics
from .tables import (
    candidates_table,
    class_table,
    metrics_table,
    percent,
    quantization_table,
    static_search_summary,
    static_search_table,
)

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("dynamic_exit.report", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def report_page(title: str, points: OperatingPoints, metrics: Metrics) -> str:
    """Return the report as HTML.

    Args:
        title: Name of the backbone.
        points: The operating points.
        metrics: Content of ``metrics.json``.
    """
    search = metrics.static_search
    return _TEMPLATES.get_template("report.html.jinja").render(
        title=title,
        points=points,
        metrics=metrics,
        percent=percent,
        figures=metrics_table(metrics),
        candidates=candidates_table(metrics),
        classes=class_table(metrics),
        quantizations=quantization_table(metrics),
        static_search=static_search_table(search) if search else None,
        static_search_summary=static_search_summary(search) if search else None,
    )
