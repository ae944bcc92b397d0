"""The nouns of the project: what a chain answers, its thresholds, its goals and operating points."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .confidence import ConfidenceRule, confidence_names, confidence_rule, register_confidence
    from .evaluation import Evaluation, check_configuration, evaluate
    from .evidence import Evidence, EvidenceRule, evidence_names, evidence_rule, register_evidence
    from .goal import Goal
    from .goal_limits import LARGEST_DROP, explain_excessive_budget, explain_excessive_drop
    from .names import FINAL, HIDDEN, LOGITS, MEMORY
    from .operating_point import Baseline, OperatingPoint, OperatingPoints, point_thresholds
    from .point_parts import Guarantee, StageThreshold
    from .semantics import ChainAnswer, chain_answer, chain_answer_cost
    from .thresholds import ALWAYS_EXIT, NEVER_EXIT, STAGE_OFF, Configuration, check_thresholds
    from .walk import AllRowsLeft, Runnable, Step, chain_steps

__all__ = [
    "ALWAYS_EXIT",
    "FINAL",
    "HIDDEN",
    "LARGEST_DROP",
    "LOGITS",
    "MEMORY",
    "NEVER_EXIT",
    "STAGE_OFF",
    "AllRowsLeft",
    "Baseline",
    "ChainAnswer",
    "ConfidenceRule",
    "Configuration",
    "Evaluation",
    "Evidence",
    "EvidenceRule",
    "Goal",
    "Guarantee",
    "OperatingPoint",
    "OperatingPoints",
    "Runnable",
    "StageThreshold",
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
    "explain_excessive_budget",
    "explain_excessive_drop",
    "point_thresholds",
    "register_confidence",
    "register_evidence",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "evaluation": ("Evaluation", "check_configuration", "evaluate"),
        "confidence": ("ConfidenceRule", "confidence_names", "confidence_rule", "register_confidence"),
        "evidence": ("Evidence", "EvidenceRule", "evidence_names", "evidence_rule", "register_evidence"),
        "goal": ("Goal",),
        "goal_limits": ("LARGEST_DROP", "explain_excessive_budget", "explain_excessive_drop"),
        "names": ("FINAL", "HIDDEN", "LOGITS", "MEMORY"),
        "operating_point": ("Baseline", "OperatingPoint", "OperatingPoints", "point_thresholds"),
        "point_parts": ("Guarantee", "StageThreshold"),
        "semantics": ("ChainAnswer", "chain_answer", "chain_answer_cost"),
        "thresholds": ("ALWAYS_EXIT", "NEVER_EXIT", "STAGE_OFF", "Configuration", "check_thresholds"),
        "walk": ("AllRowsLeft", "Runnable", "Step", "chain_steps"),
    },
)
