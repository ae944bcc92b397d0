"""Tiny savers: small independent models that answer first (TinySaver, arXiv 2403.17726).

`select_savers` chooses them out of candidates, `Shortlist` tells which candidates need not be run, `fine_tune` trains a
candidate to be a saver.
"""

from typing import TYPE_CHECKING

from ...core.lazy import lazy_exports
from .config import FINE_TUNED_SUFFIX, FineTuneStanza, TinySaverStanza

if TYPE_CHECKING:
    from .fine_tuning import TeacherSamples, fine_tune
    from .select import Candidate, SoloResult, chain_badness, evaluate_alone, select_savers, skipped_candidate
    from .shortlist import Shortlist

__all__ = [
    "FINE_TUNED_SUFFIX",
    "Candidate",
    "FineTuneStanza",
    "Shortlist",
    "SoloResult",
    "TeacherSamples",
    "TinySaverStanza",
    "chain_badness",
    "evaluate_alone",
    "fine_tune",
    "select_savers",
    "skipped_candidate",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fine_tuning": ("TeacherSamples", "fine_tune"),
        "select": ("Candidate", "SoloResult", "chain_badness", "evaluate_alone", "select_savers", "skipped_candidate"),
        "shortlist": ("Shortlist",),
    },
)
