"""One run of a recipe, step by step; `run.run` is the whole story.

A run loads what the recipe names (`load_run_inputs`), applies the static passes (`apply_static_passes`), cuts and
exports the backbone (`export_backbone`), adds savers and exits (`add_savers`, `add_exits`), makes records
(`record_split`), tunes operating points (`tune_points`), and writes, verifies and measures the model. `search_static`
does the steps up to the records for every static choice that may win. A `Build` is the model between two steps.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .exits import add_exits
    from .inputs import load_run_inputs
    from .metrics import Metrics, metrics_schema
    from .points import tune_points
    from .result import Result
    from .savers import add_savers
    from .stages import Build, RecordedBuild, export_backbone, record_split
    from .static_passes import apply_static_passes
    from .static_search.search import search_static

__all__ = [
    "Build",
    "Metrics",
    "RecordedBuild",
    "Result",
    "add_exits",
    "add_savers",
    "apply_static_passes",
    "export_backbone",
    "load_run_inputs",
    "metrics_schema",
    "record_split",
    "search_static",
    "tune_points",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "exits": ("add_exits",),
        "inputs": ("load_run_inputs",),
        "metrics": ("Metrics", "metrics_schema"),
        "points": ("tune_points",),
        "result": ("Result",),
        "savers": ("add_savers",),
        "stages": ("Build", "RecordedBuild", "export_backbone", "record_split"),
        "static_passes": ("apply_static_passes",),
        "static_search.search": ("search_static",),
    },
)
