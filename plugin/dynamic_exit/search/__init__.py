"""The search for stages and thresholds that reach goals at the least cost."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .beam import shortlist
    from .optimizer import (
        DEFAULT_DROPS,
        check_reported_drops,
        check_tunable,
        front,
        goals_from_drops,
        optimize,
        tune,
        tune_file,
    )
    from .options import SearchOptions
    from .splits import split

__all__ = [
    "DEFAULT_DROPS",
    "SearchOptions",
    "check_reported_drops",
    "check_tunable",
    "front",
    "goals_from_drops",
    "optimize",
    "shortlist",
    "split",
    "tune",
    "tune_file",
]

_MODULES = {
    "beam": ("shortlist",),
    "optimizer": (
        "DEFAULT_DROPS",
        "check_reported_drops",
        "check_tunable",
        "front",
        "goals_from_drops",
        "optimize",
        "tune",
        "tune_file",
    ),
    "options": ("SearchOptions",),
    "splits": ("split",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
