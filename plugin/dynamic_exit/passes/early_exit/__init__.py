"""Early exits: small heads on places inside a frozen backbone (DyCE, arXiv 2403.01695)."""

from .attach import attach_exits
from .config import EarlyExitStanza
from .exit_set import uncertainty
from .heads import build_head, register_head, registered_heads
from .positions import cheapest_head, choose_cuts

__all__ = [
    "EarlyExitStanza",
    "attach_exits",
    "build_head",
    "cheapest_head",
    "choose_cuts",
    "uncertainty",
    "register_head",
    "registered_heads",
]
