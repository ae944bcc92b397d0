"""A first look at the backbones of `upgrade`: whether each can take the place of the model of today, and costs more."""

from ..core.cache import Cache
from ..cost import count_macs
from ..data.run_inputs import RunInputs
from ..errors import DynamicExitError, ModelError, RecipeError
from ..passes import ModelSource
from ..sources.models.candidates import expand_candidates
from .survey import CandidateSpec, survey_candidate

_KEY = "key 'upgrade.backbones'"


def survey_backbones(run_inputs: RunInputs, cache: Cache) -> list[tuple[ModelSource, CandidateSpec]]:
    """Load every backbone of `upgrade`, and refuse what cannot be one.

    Args:
        run_inputs: Of the model of today, and a recipe with `upgrade`.
        cache: Keeps what was found.

    Returns:
        The backbones with what is known of them, in the order of the recipe.

    Raises:
        RecipeError: The recipe has static passes.
        ModelError: A backbone does not load, has no trained weights or other classes, or costs less than the model.
    """
    recipe = run_inputs.recipe
    assert recipe.upgrade is not None, "only recipes with `upgrade` have such backbones"
    if recipe.static_passes:
        raise RecipeError(f"the recipe has both `upgrade` and `{next(iter(recipe.static_passes))}`; keep one")
    today = count_macs(run_inputs.backbone, run_inputs.backbone.select(run_inputs.example))
    found = []
    for source in expand_candidates(recipe.upgrade.backbones):
        try:
            spec = survey_candidate(source.stage_name, source, run_inputs, cache)
        except DynamicExitError as error:
            raise ModelError(f"{_KEY}: '{source.stage_name}' cannot take the place of the model: {error}") from error
        if spec.untrained:
            raise ModelError(f"{_KEY}: '{source.stage_name}' is not trained: {spec.untrained}; give it `weights`")
        if recipe.dynamic_exit.tuning.cost == "macs":
            check_larger(source.stage_name, spec.macs / today)
        found.append((source, spec))
    return found


def check_larger(name: str, ratio: float) -> None:
    """Refuse a backbone that costs less than the model of today.

    Args:
        name: Of the backbone.
        ratio: What it costs, over what the model does.

    Raises:
        ModelError: It costs less.
    """
    if ratio < 1:
        raise ModelError(
            f"{_KEY}: '{name}' costs {ratio:.3g} of what the model costs today, so that it fits the budget alone; "
            "deploy it as it is, or give larger ones"
        )
