"""Exit heads: small classifiers on a hidden state of the backbone, one kind per file.

Importing this package registers the built-in kinds; `README.md` shows how to write another one.
"""

from . import attention, conv, linear, mlp, residual
from .base import ExitHead, HeadEntry, build_head, name_heads, register_head, registered_heads
from .feature_layout import FeatureLayout
from .pooling import GlobalPool, GridPool, Identity, Standardize

__all__ = [
    "ExitHead",
    "FeatureLayout",
    "GlobalPool",
    "GridPool",
    "HeadEntry",
    "Identity",
    "Standardize",
    "attention",
    "build_head",
    "conv",
    "linear",
    "mlp",
    "name_heads",
    "register_head",
    "registered_heads",
    "residual",
]
