"""Tiny savers: independent small models that answer first (TinySaver, arXiv 2403.17726)."""

from .config import TinySaverStanza
from .select import ALWAYS, Alone, Candidate, not_run, select_savers, try_alone
from .shortlist import Shortlist

__all__ = [
    "ALWAYS",
    "Alone",
    "Candidate",
    "Shortlist",
    "TinySaverStanza",
    "not_run",
    "select_savers",
    "try_alone",
]
