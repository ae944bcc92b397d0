"""Confidence rules: how sure evidence is, each rule in one file.

Importing this package registers the rule of every file; `README.md` shows how to write another one.
"""

import sys

from ...core.registry import import_items
from .base import ConfidenceRule
from .gate import Gate
from .registry import ConfidenceName, confidence_names, confidence_rule, register_confidence

__all__ = ["ConfidenceName", "ConfidenceRule", "Gate", "confidence_names", "confidence_rule", "register_confidence"]

import_items(sys.modules[__name__])
