from dynamic_exit.points.goal import Goal
from dynamic_exit.points.operating_point import Baseline, OperatingPoint, OperatingPoints
from dynamic_exit.points.parts import Guarantee


def drops(*values: float) -> list[Goal]:
    return [Goal(max_accuracy_drop=value) for value in values]


def budgets(*values: float) -> list[Goal]:
    return [Goal(budget=value) for value in values]


def point(
    name: str, cost: float, drop: float = 0.0, goal: Goal | None = None, promise: float | None = None
) -> OperatingPoint:
    """An operating point of made-up figures; with a guarantee for a drop if there is a promise."""
    guarantee = promise and Guarantee(max_accuracy_drop=promise, probability=0.9, samples=100)
    return OperatingPoint(
        name=name,
        goal=goal,
        accuracy=0.9 - drop,
        accuracy_drop=drop,
        cost=cost,
        cost_ratio=cost,
        exit_rates={"final": 1.0},
        samples=100,
        guarantee=guarantee or None,
    )


def file_of(*points) -> OperatingPoints:
    """Made-up operating points."""
    return OperatingPoints(cost_unit="macs", baseline=Baseline(accuracy=0.9, cost=1.0), points=points)
