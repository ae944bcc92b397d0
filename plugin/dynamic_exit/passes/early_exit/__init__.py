"""Early exits: small heads on hidden states of a frozen backbone (DyCE, arXiv 2403.01695).

`choose_cuts` decides where heads go, `attach_exits` trains them; the kinds of heads are in `heads`.
"""

from typing import TYPE_CHECKING

from ...core.lazy import lazy_exports
from .config import EarlyExitStanza

if TYPE_CHECKING:
    from .attach import AttachedExits, attach_exits
    from .exit_set import uncertainty
    from .heads import build_head, register_head, registered_heads
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

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "attach": ("AttachedExits", "attach_exits"),
        "exit_set": ("uncertainty",),
        "heads": ("build_head", "register_head", "registered_heads"),
        "options": ("BackboneSegment", "ExitTraining", "FrozenBackbone", "TrainingSamples"),
        "positions": ("cheapest_head", "choose_cuts"),
    },
)
