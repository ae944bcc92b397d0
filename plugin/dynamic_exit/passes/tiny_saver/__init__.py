"""Tiny savers: independent small models that answer first (TinySaver, arXiv 2403.17726)."""

from .config import TinySaverStanza
from .fine_tune import FineTuneStanza, fine_tune
from .select import ALWAYS, TUNED, Alone, Candidate, chain_ratio, not_run, select_savers, try_alone
from .shortlist import Shortlist

__all__ = [
    "ALWAYS",
    "TUNED",
    "Alone",
    "Candidate",
    "FineTuneStanza",
    "Shortlist",
    "TinySaverStanza",
    "chain_ratio",
    "fine_tune",
    "not_run",
    "select_savers",
    "try_alone",
]
