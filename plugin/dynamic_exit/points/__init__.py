"""Operating points: goals, the configurations that reach them with their measured figures, and the file for both."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .goal import Goal
    from .goal_limits import LARGEST_DROP, explain_excessive_budget, explain_excessive_drop
    from .operating_point import OperatingPoint, OperatingPoints, point_thresholds
    from .parts import Baseline, Guarantee, RiskFigures, StageThreshold

__all__ = [
    "LARGEST_DROP",
    "Baseline",
    "Goal",
    "Guarantee",
    "OperatingPoint",
    "OperatingPoints",
    "RiskFigures",
    "StageThreshold",
    "explain_excessive_budget",
    "explain_excessive_drop",
    "point_thresholds",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "goal": ("Goal",),
        "goal_limits": ("LARGEST_DROP", "explain_excessive_budget", "explain_excessive_drop"),
        "operating_point": ("OperatingPoint", "OperatingPoints", "point_thresholds"),
        "parts": ("Baseline", "Guarantee", "RiskFigures", "StageThreshold"),
    },
)
