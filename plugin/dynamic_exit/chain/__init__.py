"""The nouns of the project: what a chain answers, its thresholds, its goals and operating points."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .drop_checks import DropCheck, check_drops, describe_unmet_requirements, standard_error, with_standard_error
    from .evaluation import Configuration, Evaluation, check_configuration, evaluate
    from .goal import Goal
    from .goal_limits import LARGEST_DROP, explain_excessive_budget, explain_excessive_drop
    from .names import FINAL, FUSES, HIDDEN, LOGITS, MEMORY
    from .operating_point import Baseline, Guarantee, OperatingPoint, OperatingPoints, StageThreshold
    from .thresholds import ALWAYS_EXIT, NEVER_EXIT, STAGE_OFF, check_thresholds, point_thresholds

__all__ = [
    "ALWAYS_EXIT",
    "FINAL",
    "FUSES",
    "HIDDEN",
    "LARGEST_DROP",
    "LOGITS",
    "MEMORY",
    "NEVER_EXIT",
    "STAGE_OFF",
    "Baseline",
    "Configuration",
    "DropCheck",
    "Evaluation",
    "Goal",
    "Guarantee",
    "OperatingPoint",
    "OperatingPoints",
    "StageThreshold",
    "check_configuration",
    "check_drops",
    "check_thresholds",
    "describe_unmet_requirements",
    "evaluate",
    "explain_excessive_budget",
    "explain_excessive_drop",
    "point_thresholds",
    "standard_error",
    "with_standard_error",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "drop_checks": (
            "DropCheck",
            "check_drops",
            "describe_unmet_requirements",
            "standard_error",
            "with_standard_error",
        ),
        "evaluation": ("Configuration", "Evaluation", "check_configuration", "evaluate"),
        "goal": ("Goal",),
        "goal_limits": ("LARGEST_DROP", "explain_excessive_budget", "explain_excessive_drop"),
        "names": ("FINAL", "FUSES", "HIDDEN", "LOGITS", "MEMORY"),
        "operating_point": ("Baseline", "Guarantee", "OperatingPoint", "OperatingPoints", "StageThreshold"),
        "thresholds": ("ALWAYS_EXIT", "NEVER_EXIT", "STAGE_OFF", "check_thresholds", "point_thresholds"),
    },
)
