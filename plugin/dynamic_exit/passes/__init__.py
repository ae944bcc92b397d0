"""The compression passes; importing a pass's folder registers it."""

from .early_exit import EarlyExitStanza
from .pruning import PruningStanza
from .registry import PassInfo, register_pass, registered_passes
from .stanza import ModelSource, Stanza, explain
from .tiny_saver import TinySaverStanza

__all__ = [
    "EarlyExitStanza",
    "ModelSource",
    "PassInfo",
    "PruningStanza",
    "Stanza",
    "TinySaverStanza",
    "explain",
    "register_pass",
    "registered_passes",
]
