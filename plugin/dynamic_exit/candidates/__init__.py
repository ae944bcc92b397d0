"""Candidates for savers: surveyed by cost, run from cheap to expensive, chosen, and trained if the recipe says so."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .evaluation import SaverSelection, select_candidates
    from .pool import CandidatePool
    from .survey import CandidateSpec

__all__ = ["CandidatePool", "CandidateSpec", "SaverSelection", "select_candidates"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "evaluation": ("SaverSelection", "select_candidates"),
        "pool": ("CandidatePool",),
        "survey": ("CandidateSpec",),
    },
)
