"""The compression passes: early exits, tiny savers, pruning, quantization, and passes of other distributions.

Importing this package registers the built-in passes and their stanzas; what a pass needs to run is imported when it
runs. `README.md` shows how to add one.
"""

from .early_exit import EarlyExitStanza
from .external import (
    Samples,
    StaticPass,
    apply_static,
    load_entry_points,
    register_static,
    third_party_passes_installed,
    why_broken,
)
from .model_source import MODEL_SOURCES, AnyModelSource, ModelKind, ModelSource
from .pruning import PruningStanza
from .registry import PassInfo, register_pass, registered_passes
from .stanza import Stanza, explain
from .tiny_saver import TinySaverStanza

__all__ = [
    "MODEL_SOURCES",
    "AnyModelSource",
    "EarlyExitStanza",
    "ModelKind",
    "ModelSource",
    "PassInfo",
    "PruningStanza",
    "Samples",
    "Stanza",
    "StaticPass",
    "TinySaverStanza",
    "apply_static",
    "explain",
    "load_entry_points",
    "register_pass",
    "register_static",
    "registered_passes",
    "third_party_passes_installed",
    "why_broken",
]
