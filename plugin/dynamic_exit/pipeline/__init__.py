"""One run of a recipe, step by step; `run.run` is the whole story.

A run loads what the recipe names (`load_run_inputs`), applies the static passes (`apply_static_passes`), cuts and
exports the backbone (`export_backbone`), adds savers and exits (`add_savers`, `add_exits`), makes records
(`record_split`), tunes operating points (`tune_points`), and writes, verifies and measures the model. `search_static`
does the steps up to the records for every static choice that may win. A `Build` is the model between two steps.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .candidates.pool import CandidatePool
    from .exits import add_exits
    from .inputs import load_run_inputs
    from .metrics import Metrics, metrics_schema
    from .points import tune_points
    from .run import Result
    from .savers import add_savers
    from .stages import Build, RecordedBuild, export_backbone, record_split
    from .static_passes import apply_static_passes
    from .static_search.search import search_static

__all__ = [
    "Build",
    "CandidatePool",
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

_MODULES = {
    "Build": ".stages",
    "CandidatePool": ".candidates.pool",
    "Metrics": ".metrics",
    "RecordedBuild": ".stages",
    "Result": ".run",
    "add_exits": ".exits",
    "add_savers": ".savers",
    "apply_static_passes": ".static_passes",
    "export_backbone": ".stages",
    "load_run_inputs": ".inputs",
    "metrics_schema": ".metrics",
    "record_split": ".stages",
    "search_static": ".static_search.search",
    "tune_points": ".points",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
