"""Structured pruning on torch-pruning."""

from .config import PruningStanza
from .prune import prune
from .serialization import load_pruned, pack_pruned, save_pruned, unpack_pruned

__all__ = ["PruningStanza", "load_pruned", "pack_pruned", "prune", "save_pruned", "unpack_pruned"]
