"""Evidence rules: how the answers of the stages that ran so far become one, each rule in one file.

Importing this package registers the rule of every file; `README.md` shows how to write another one.
"""

import sys

from ...core.registry import import_items
from ..graph_writer import GraphWriter
from .base import EvidenceRule, RecordedEvidence, WeighedRule
from .registry import EvidenceName, evidence_names, evidence_rule, register_evidence
from .spec import AUTO, Evidence

__all__ = [
    "AUTO",
    "Evidence",
    "EvidenceName",
    "EvidenceRule",
    "GraphWriter",
    "RecordedEvidence",
    "WeighedRule",
    "evidence_names",
    "evidence_rule",
    "register_evidence",
]

import_items(sys.modules[__name__])
