"""What a chain is and what it answers: stages, evidence, confidence and thresholds."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .confidence import ConfidenceRule, confidence_names, confidence_rule, register_confidence
    from .evaluation import Evaluation, check_configuration, evaluate
    from .evidence import Evidence, EvidenceRule, evidence_names, evidence_rule, register_evidence
    from .names import FINAL, HIDDEN, LOGITS, MEMORY
    from .semantics import ChainAnswer, chain_answer, chain_answer_cost
    from .thresholds import ALWAYS_EXIT, NEVER_EXIT, STAGE_OFF, Configuration, check_thresholds
    from .walk import AllRowsLeft, Runnable, Step, chain_steps

__all__ = [
    "ALWAYS_EXIT",
    "FINAL",
    "HIDDEN",
    "LOGITS",
    "MEMORY",
    "NEVER_EXIT",
    "STAGE_OFF",
    "AllRowsLeft",
    "ChainAnswer",
    "ConfidenceRule",
    "Configuration",
    "Evaluation",
    "Evidence",
    "EvidenceRule",
    "Runnable",
    "Step",
    "chain_answer",
    "chain_answer_cost",
    "chain_steps",
    "check_configuration",
    "check_thresholds",
    "confidence_names",
    "confidence_rule",
    "evaluate",
    "evidence_names",
    "evidence_rule",
    "register_confidence",
    "register_evidence",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "evaluation": ("Evaluation", "check_configuration", "evaluate"),
        "confidence": ("ConfidenceRule", "confidence_names", "confidence_rule", "register_confidence"),
        "evidence": ("Evidence", "EvidenceRule", "evidence_names", "evidence_rule", "register_evidence"),
        "names": ("FINAL", "HIDDEN", "LOGITS", "MEMORY"),
        "semantics": ("ChainAnswer", "chain_answer", "chain_answer_cost"),
        "thresholds": ("ALWAYS_EXIT", "NEVER_EXIT", "STAGE_OFF", "Configuration", "check_thresholds"),
        "walk": ("AllRowsLeft", "Runnable", "Step", "chain_steps"),
    },
)
