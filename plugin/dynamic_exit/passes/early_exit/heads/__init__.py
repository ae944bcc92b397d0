"""Kinds of exit heads, one file each; importing a file registers what is in it."""

from . import attention, conv, linear, mlp, residual
from .base import ExitHead, HeadEntry, build_head, name_heads, register_head, registered_heads
from .feature_layout import FeatureLayout
from .pooling import GlobalPool, GridPool, Identity, Standardize

__all__ = [
    "ExitHead",
    "HeadEntry",
    "FeatureLayout",
    "GridPool",
    "GlobalPool",
    "Standardize",
    "Identity",
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
