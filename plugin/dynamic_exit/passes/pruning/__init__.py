"""Structured pruning on torch-pruning."""

from .config import PruningStanza
from .prune import prune

__all__ = ["PruningStanza", "prune"]
