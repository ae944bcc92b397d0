"""The compression passes; importing a pass's folder registers it."""

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
from .pruning import PruningStanza
from .registry import PassInfo, register_pass, registered_passes
from .stanza import ModelSource, Stanza, explain
from .tiny_saver import TinySaverStanza

__all__ = [
    "EarlyExitStanza",
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
