"""Tiny savers: independent small models that answer first (TinySaver, arXiv 2403.17726)."""

from .config import TinySaverStanza
from .select import ALWAYS, Candidate, select_savers

__all__ = ["ALWAYS", "Candidate", "TinySaverStanza", "select_savers"]
