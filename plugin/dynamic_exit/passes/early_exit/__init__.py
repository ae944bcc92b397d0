"""Early exits: small heads on hidden states of a frozen backbone (DyCE, arXiv 2403.01695).

`choose_cuts` decides where heads go, `attach_exits` trains them; the kinds of heads are in `heads`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .config import EarlyExitStanza
from .heads import build_head, register_head, registered_heads

if TYPE_CHECKING:
    from .attach import AttachedExits, attach_exits
    from .exit_set import uncertainty
    from .options import BackboneSegment, ExitTraining, FrozenBackbone, TrainingSamples
    from .positions import cheapest_head, choose_cuts

__all__ = [
    "AttachedExits",
    "BackboneSegment",
    "EarlyExitStanza",
    "ExitTraining",
    "FrozenBackbone",
    "TrainingSamples",
    "attach_exits",
    "build_head",
    "cheapest_head",
    "choose_cuts",
    "register_head",
    "registered_heads",
    "uncertainty",
]

_MODULES = {
    "AttachedExits": ".attach",
    "BackboneSegment": ".options",
    "ExitTraining": ".options",
    "FrozenBackbone": ".options",
    "TrainingSamples": ".options",
    "attach_exits": ".attach",
    "cheapest_head": ".positions",
    "choose_cuts": ".positions",
    "uncertainty": ".exit_set",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name], __name__), name)
    return value
