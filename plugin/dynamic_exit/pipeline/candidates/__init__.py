"""Candidates for savers: surveyed by cost, run from cheap to expensive, chosen, and trained if the recipe says so."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evaluation import SaverSelection, select_candidates
    from .pool import CandidatePool
    from .survey import CandidateSpec

__all__ = ["CandidatePool", "CandidateSpec", "SaverSelection", "select_candidates"]

_MODULES = {
    "CandidatePool": ".pool",
    "CandidateSpec": ".survey",
    "SaverSelection": ".evaluation",
    "select_candidates": ".evaluation",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name], __name__), name)
