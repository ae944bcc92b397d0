"""Figures of a run, and how they are shown: `metrics.json`, tables, the HTML report and plots.

`tables` holds every table as data; the report, the model card and the command line render them.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .front import plot_front, plot_search
    from .metrics import Metrics
    from .page import report_page
    from .research import calibration_error, plot_reliability, plot_risk_coverage, reliability, risk_coverage
    from .tables import Table

__all__ = [
    "Metrics",
    "Table",
    "calibration_error",
    "plot_front",
    "plot_reliability",
    "plot_risk_coverage",
    "plot_search",
    "reliability",
    "report_page",
    "risk_coverage",
]

# on first use: plots import matplotlib
__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "front": ("plot_front", "plot_search"),
        "metrics": ("Metrics",),
        "page": ("report_page",),
        "research": ("calibration_error", "plot_reliability", "plot_risk_coverage", "reliability", "risk_coverage"),
        "tables": ("Table",),
    },
)
