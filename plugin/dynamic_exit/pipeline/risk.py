"""The risk that a recipe's goals are about."""

from ..errors import TuningError
from ..recipe.recipe import Recipe
from ..records.risk import Risk, parse_risk
from ..runtime.recorder import KEPT_CLASSES


def risk_of(recipe: Recipe, classes: int) -> Risk:
    """Return the risk of a recipe for a number of classes.

    Raises:
        TuningError: It is malformed, or looks at more classes of an answer than records keep.
        RecipeError: Its function cannot be loaded.
    """
    risk = parse_risk(recipe.dynamic_exit.tuning.risk, classes)
    if risk.depth > min(KEPT_CLASSES, classes - 1):
        raise TuningError(
            f"the risk '{risk.name}' looks at {risk.depth} of {classes} classes, of which records keep {KEPT_CLASSES}; "
            f"take top_{min(KEPT_CLASSES, classes - 1)} or less"
        )
    return risk
