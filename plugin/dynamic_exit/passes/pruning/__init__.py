"""Structured pruning on torch-pruning's dependency graph, and pruned models as files.

Importing this package does not import torch-pruning; `prune` does when it runs.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .config import PruningStanza

if TYPE_CHECKING:
    from .pruner import prune
    from .serialization import load_pruned, pack_pruned, save_pruned, unpack_pruned

__all__ = ["PruningStanza", "load_pruned", "pack_pruned", "prune", "save_pruned", "unpack_pruned"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = ".pruner" if name == "prune" else ".serialization"
    value = globals()[name] = getattr(importlib.import_module(module, __name__), name)
    return value
