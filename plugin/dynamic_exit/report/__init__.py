"""Figures of a run, and how they are shown: `metrics.json`, tables, the HTML report and plots.

`tables` holds every table as data; the report, the model card and the command line render them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .front import plot_front, plot_search
    from .metrics import Metrics
    from .page import report_page
    from .tables import Table

__all__ = ["Metrics", "Table", "plot_front", "plot_search", "report_page"]

_MODULES = {
    "front": ("plot_front", "plot_search"),
    "metrics": ("Metrics",),
    "page": ("report_page",),
    "tables": ("Table",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:  # on first use: plots import matplotlib
            value = globals()[name] = getattr(importlib.import_module(f".{module}", __name__), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
