"""Tiny savers: independent small models that answer first (TinySaver, arXiv 2403.17726)."""

from .chance import can_tell, no_better_than_chance
from .config import TinySaverStanza
from .fine_tune import FineTuneStanza, fine_tune
from .select import (
    FINE_TUNED_SUFFIX,
    Candidate,
    SoloResult,
    chain_ratio,
    evaluate_alone,
    select_savers,
    skipped_candidate,
)
from .shortlist import Shortlist

__all__ = [
    "FINE_TUNED_SUFFIX",
    "SoloResult",
    "Candidate",
    "FineTuneStanza",
    "Shortlist",
    "TinySaverStanza",
    "can_tell",
    "chain_ratio",
    "fine_tune",
    "no_better_than_chance",
    "skipped_candidate",
    "select_savers",
    "evaluate_alone",
]
