"""Evidence rules: how the answers of the stages that ran so far become one, each rule in one file.

Importing this package registers the built-in rules; `README.md` shows how to write another one.
"""

from . import mean, none
from .base import EvidenceRule, GraphWriter
from .registry import EvidenceName, evidence_names, evidence_rule, register_evidence

__all__ = [
    "EvidenceName",
    "EvidenceRule",
    "GraphWriter",
    "evidence_names",
    "evidence_rule",
    "mean",
    "none",
    "register_evidence",
]
