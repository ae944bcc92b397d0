"""The steps of a run, by the names under which they are logged, and what follows a run."""

from typing import Protocol

from ..data.run_inputs import RunInputs
from ..recipe.recipe import Recipe

#: Names of the steps, in order.
LOAD, STATIC, STATIC_SEARCH, BACKBONE = "model and data", "static passes", "static search", "backbone"
UPGRADE = "upgrade"
SAVERS, EXITS, COSTS, RECORDS = "savers", "exits", "costs", "records"
POINTS, FILE, FIGURES = "operating points", "file", "figures"


class RunProgress(Protocol):
    """Follows a run, beside its log."""

    def loaded(self, run_inputs: RunInputs) -> None:
        """Take what the recipe names, once it is loaded."""

    def candidates(self, what: str, fraction: float) -> None:
        """Take what is done with candidates, and the fraction of all work on them that is done, in 0..1."""


def list_steps(recipe: Recipe) -> list[str]:
    """Return the names of the steps that a run of a recipe takes, in order."""
    dynamic = recipe.dynamic_exit
    if dynamic.tuning.static_search:
        made = [STATIC_SEARCH]
    elif recipe.upgrade:
        made = [UPGRADE]
    else:
        savers, exits = [SAVERS] * bool(dynamic.tiny_saver), [EXITS] * bool(dynamic.early_exit)
        made = [*[STATIC] * bool(recipe.static_passes), BACKBONE, *savers, *exits, COSTS, RECORDS]
    return [LOAD, *made, POINTS, FILE, FIGURES]
