"""Structured pruning on torch-pruning's dependency graph, and pruned models as files.

Importing this package does not import torch-pruning; `prune` does when it runs.
"""

from typing import TYPE_CHECKING

from ...core.lazy import lazy_exports
from .config import PruningStanza

if TYPE_CHECKING:
    from .pruner import prune
    from .serialization import load_pruned, pack_pruned, save_pruned, unpack_pruned

__all__ = ["PruningStanza", "load_pruned", "pack_pruned", "prune", "save_pruned", "unpack_pruned"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "pruner": ("prune",),
        "serialization": ("load_pruned", "pack_pruned", "save_pruned", "unpack_pruned"),
    },
)
