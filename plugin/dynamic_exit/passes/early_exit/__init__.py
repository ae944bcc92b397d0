"""Early exits: small heads on places inside a frozen backbone (DyCE, arXiv 2403.01695)."""

from .config import EarlyExitStanza
from .heads import build_head, register_head, registered_heads
from .positions import choose_cuts
from .train import train_head

__all__ = ["EarlyExitStanza", "build_head", "choose_cuts", "register_head", "registered_heads", "train_head"]
