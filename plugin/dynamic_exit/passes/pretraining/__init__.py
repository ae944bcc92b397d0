"""Masked pre-training: an encoder learns from samples without labels, by filling masked segments in."""

from typing import TYPE_CHECKING

from ...core.lazy import lazy_exports
from .config import PretrainStanza

if TYPE_CHECKING:
    from .masked_training import pretrain, train_masked

__all__ = ["PretrainStanza", "pretrain", "train_masked"]

__getattr__, __dir__ = lazy_exports(__name__, {"masked_training": ("pretrain", "train_masked")})
