"""Exit heads: small classifiers on a hidden state of the backbone, one kind per file.

Importing this package registers the kind of every file; `README.md` shows how to write another one.
"""

import sys

from ....core.registry import import_items
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
    "build_head",
    "name_heads",
    "register_head",
    "registered_heads",
]

import_items(sys.modules[__name__])
