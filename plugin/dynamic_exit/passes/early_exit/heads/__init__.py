"""Kinds of exit heads, one file each; importing a file registers what is in it."""

from . import attention, conv, linear, mlp, residual
from .base import ExitHead, HeadEntry, build_head, name_heads, register_head, registered_heads
from .hidden import Hidden
from .pooling import Places, Pooled, Standardise, Whole

__all__ = [
    "ExitHead",
    "HeadEntry",
    "Hidden",
    "Places",
    "Pooled",
    "Standardise",
    "Whole",
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
